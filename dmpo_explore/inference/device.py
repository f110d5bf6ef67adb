"""The device of an inference: which one, its settings, and the joules that it has used, where it counts them.

Energy that a device has used: a counter of joules, where the machine has one that can be read.
A GPU's is NVML's, through the package ``nvidia-ml-py``. It counts everything that the device does, idle power and
other programs included, and moves about ten times a second, so energy is measured in blocks of `BLOCK` seconds
(`call_energy`).
Importing this file imports no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

BLOCK = 1.0  # seconds at least
Counter = Callable[[], float]


def energy_counter(device: str) -> Counter | None:
    """A function that returns the joules that a GPU has used since some moment; None where they cannot be read, as
    without ``nvidia-ml-py``, of a part of a GPU (MIG), or of another device.

    Args:
        device: as torch calls it, e.g. ``cpu``, ``cuda`` (the current one) or ``cuda:1``.

    Example:
        >>> energy_counter("cpu") is None
        True
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return None
    try:
        pynvml, handle = _nvml_handle(int(index) if index else None)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no package, no driver, or a GPU without the counter: each raises one of its own
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


class CallEnergy(NamedTuple):
    """Of one call: joules and seconds, means over a block."""

    joules: float
    seconds: float

    @property
    def watts(self) -> float:
        """Power during the block."""
        return self.joules / self.seconds


def call_energy(
    function: Callable[[], object], counter: Counter, clock: Callable[[], float] = time.perf_counter
) -> CallEnergy:
    """Energy of one call of ``function``, which is called for `BLOCK` seconds at least."""
    before, start, calls = counter(), clock(), 0
    while not calls or clock() - start < BLOCK:
        function()
        calls += 1
    return CallEnergy((counter() - before) / calls, (clock() - start) / calls)


def idle_watts(counter: Counter) -> float:
    """Power while this process does nothing, over `BLOCK` seconds."""
    return call_energy(partial(time.sleep, BLOCK), counter).watts


def gpu_watts(index: int | None = None) -> float | None:
    """A GPU's power now, by NVML; None where `energy_counter` is None or the GPU has no sensor."""
    try:
        pynvml, handle = _nvml_handle(index)
        return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000
    except Exception:
        return None


def _nvml_handle(index: int | None) -> tuple[Any, Any]:
    """By UUID: torch counts the visible GPUs, the fastest first perhaps, and NVML all of them."""
    import torch

    pynvml = import_module("pynvml")
    pynvml.nvmlInit()
    place = torch.cuda.current_device() if index is None else index
    uuid = str(torch.cuda.get_device_properties(place).uuid)
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")


# Description of the device that models run on; importing this file imports no torch, calling it does.


class DeviceFacts(NamedTuple):
    """Device of `Run.model` with ``device="auto"``: ``cpu`` or the GPU's name, and torch's CPU threads."""

    device: str
    threads: int


def device_facts() -> DeviceFacts:
    """Name of the GPU, or ``cpu``, and the number of threads that torch uses.

    Example:
        >>> device_facts().threads >= 1
        True
    """
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return DeviceFacts(name, torch.get_num_threads())


class GpuUse(NamedTuple):
    """Use of the GPU now: bytes in use and in all, and watts, None where they cannot be read.

    Example:
        >>> GpuUse("NVIDIA H100", 2 * 2**30, 80 * 2**30, 312.0).used / 2**30
        2.0
    """

    name: str
    used: int
    total: int
    watts: float | None


def gpu_use(device: str = "auto") -> GpuUse | None:
    """Name, memory and power of the GPU that ``device`` stands for, as in `Run.model`; None if it is no NVIDIA GPU,
    or one that no longer answers.

    Watts come from NVML and need the package ``nvidia-ml-py``; without it they are None.

    Example:
        >>> gpu_use()  # doctest: +SKIP
        GpuUse(name='NVIDIA H100', used=2147483648, total=85899345920, watts=312.0)
    """
    import torch

    if not _is_gpu(device):
        return None
    try:
        index = _index(device)
        free, total = torch.cuda.mem_get_info(index)
        return GpuUse(torch.cuda.get_device_name(index), total - free, total, gpu_watts(index))
    except RuntimeError:
        return None


def describe_device(device: str = "auto") -> str:
    """One line: the GPU's name and memory, or the threads that torch uses of the CPU's cores.

    Args:
        device: as `Run.model` takes it.

    Example:
        >>> describe_device("cpu")  # doctest: +SKIP
        'CPU, 8 threads on 16 cores'
    """
    import torch

    if _is_gpu(device):
        facts = torch.cuda.get_device_properties(_index(device))
        return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if (kind := device.partition(":")[0]) not in ("auto", "cpu", "cuda"):
        return kind
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)} on {os.cpu_count()} cores"


def _index(device: str) -> int:
    """torch's number of a GPU; the current one where ``device`` names none."""
    import torch

    number = device.partition(":")[2]
    return int(number) if number else torch.cuda.current_device()


def _is_gpu(device: str) -> bool:
    import torch

    return device.partition(":")[0] in ("auto", "cuda") and torch.cuda.is_available()

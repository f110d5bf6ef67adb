"""Description of the device that models run on; importing this file imports no torch, calling it does."""

from __future__ import annotations

import os
from typing import NamedTuple

from .energy import gpu_watts


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

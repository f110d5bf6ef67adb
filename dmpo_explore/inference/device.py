"""Description of the device that models run on; importing this file imports no torch, calling it does."""

from __future__ import annotations

import os
from typing import NamedTuple


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


def gpu_use() -> GpuUse | None:
    """Name, memory and power of the GPU that `Run.model` uses; None without one.

    Watts come from NVML through torch and need the package ``nvidia-ml-py``; without it they are None.

    Example:
        >>> gpu_use()  # doctest: +SKIP
        GpuUse(name='NVIDIA H100', used=2147483648, total=85899345920, watts=312.0)
    """
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    try:
        watts: float | None = torch.cuda.power_draw() / 1000
    except Exception:  # without NVML, permission or a sensor torch raises each one's own
        watts = None
    return GpuUse(torch.cuda.get_device_name(), total - free, total, watts)


def describe_device() -> str:
    """One line: the GPU's name and memory, or the threads that torch uses of the CPU's cores.

    Example:
        >>> describe_device()  # doctest: +SKIP
        'CPU, 8 threads on 16 cores'
    """
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)} on {os.cpu_count()} cores"

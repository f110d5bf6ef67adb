"""Energy that a device has used: a counter of joules, where the machine has one that can be read.

A GPU's is NVML's, through the package ``nvidia-ml-py``; a CPU's is RAPL's, in Linux' powercap folder, which only root
may read on many machines. Both count everything that the device does, idle power and other programs included.
Importing this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
Counter = Callable[[], float]


def energy_counter(device: str) -> Counter | None:
    """A function that returns the joules that ``device`` has used since some moment; None where they cannot be read.

    Args:
        device: ``cpu`` or ``cuda``, as torch calls it.

    Example:
        >>> counter = energy_counter("cpu")
        >>> counter is None or counter() <= counter()
        True
    """
    return gpu_counter() if device == "cuda" else cpu_counter()


def cpu_counter(folder: Path = POWERCAP) -> Counter | None:
    """RAPL's joules of all processor packages together; None where no counter can be read.

    A package's counter begins again at 0 after its largest value; that is accounted for.

    Example:
        >>> cpu_counter(Path("no such folder")) is None
        True
    """
    found = []
    for package in sorted(folder.glob("intel-rapl:*")):
        try:
            if (package / "name").read_text(encoding="ascii").startswith("package"):
                found.append(_Package(package))
        except (OSError, ValueError):
            continue
    return (lambda: sum(package.joules() for package in found)) if found else None


class _Package:
    """The counter of one package."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._most = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        self._before, self._turns = self._read(), 0

    def _read(self) -> int:
        return int(self._file.read_text(encoding="ascii"))

    def joules(self) -> float:
        now = self._read()
        self._turns += now < self._before
        self._before = now
        return (self._turns * self._most + now) / 1e6


def gpu_counter() -> Counter | None:
    """NVML's joules of the GPU that torch uses; None without the package ``nvidia-ml-py`` or such a counter.

    Example:
        >>> gpu_counter()  # doctest: +SKIP
    """
    import torch

    try:
        pynvml = import_module("pynvml")
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no package, no driver, or a GPU without the counter: each raises one of its own
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

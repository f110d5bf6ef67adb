"""Progress of a command as a small JSON file that another process reads while it runs.

In: calls of `ProgressFile.to`. Out: a JSON file, replaced as a whole, and `read_progress`.
The command line writes it (``--progress FILE``), `jobs` reads it.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..utils.files import read_json, require_ours, write_json

EVERY = 0.5  # seconds between two writes
DONE = "done"  # `Progress.what` of a finished command
STATUS = Path("/proc/self/status")  # Linux: of this process


@dataclass(frozen=True)
class Progress:
    """Progress of a command at one moment.

    Args:
        what: the present task, e.g. ``training``; `DONE` at the end.
        done, total: steps or images.
        first, began: ``done`` and the time when ``what`` was first reported; ``now``: the time. In seconds of a clock
            that stands still while the machine sleeps; only differences mean something.
        memory: peak memory of the process in bytes. epoch, epochs, loss: of a training; epochs count from 1.

    Example:
        30 of 100 steps, 20 of them in the 10 seconds since the first report:

        >>> now = Progress("training", 30, 100, first=10, began=0.0, now=10.0, memory=2**30)
        >>> now.seconds_each, now.seconds_left
        (0.5, 35.0)
    """

    what: str
    done: int
    total: int
    first: int
    began: float
    now: float
    memory: int
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None

    @property
    def seconds_each(self) -> float | None:
        """Seconds per step or image, pauses included; None before two have been reported."""
        return (self.now - self.began) / (self.done - self.first) if self.done > self.first else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until ``total`` at that rate; None while there is none."""
        return None if self.seconds_each is None else (self.total - self.done) * self.seconds_each


class ProgressFile:
    """Progress file at ``path``, written at most every `EVERY` seconds; without a path no file is written.

    Raises FileExistsError where there is another file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.last: Progress | None = None
        self.written = 0.0
        if path is not None:
            require_ours(path, "a progress file", lambda file: [] if read_progress(file) else None)

    def to(
        self, what: str, done: int, total: int, *, epoch: int = 0, epochs: int = 0, loss: float | None = None
    ) -> None:
        """``done`` of ``total``; the first and the last report of each ``what`` are always written."""
        if self.path is None:
            return
        now = time.monotonic()
        same = self.last is not None and self.last.what == what
        first, began = (self.last.first, self.last.began) if same and self.last else (done, now)
        self.last = Progress(what, done, total, first, began, now, peak_memory(), epoch, epochs, loss)
        if not same or done >= total or now - self.written >= EVERY:
            write_json(self.path, dataclasses.asdict(self.last))
            self.written = now

    def end(self) -> None:
        """Write that the command has finished."""
        self.to(DONE, 1, 1)


def read_progress(path: Path) -> Progress | None:
    """The progress in a file; None if there is none or it is invalid."""
    try:
        return Progress(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None


def peak_memory() -> int:
    """Peak resident memory of this process in bytes.

    Linux: VmHWM, which starts from 0 with a program; ``ru_maxrss`` includes that of the process that started it.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if STATUS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)):
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024

"""Status of a background training: state, epochs, recorded splits, reason of a failure."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from ..runs.history import finished_epochs
from ..runs.run import Run, outdated_splits
from ..runs.run_data import default_splits
from ..runs.store import runs_root
from ..runs.weights_file import WEIGHTS
from .job import Job, log_tail
from .process import process_of
from .progress_file import DONE, Progress, read_progress

RUNNING = "running"
STOPPING = "stopping"
FINISHED = "finished"
STOPPED = "stopped"
FAILED = "failed"
DELETED = "deleted"
ACTIVE = (RUNNING, STOPPING)
PROCESS_GONE = "the process ended without an error message: it was killed, memory ran out, or the machine was restarted"


ERROR_LINE = re.compile(r"error: |[A-Za-z_.]*(Error|Exception)\b")  # how an error's line begins


@dataclass(frozen=True)
class Status:
    """Status of a background training.

    Args:
        state: running, stopping, finished, stopped, failed, or deleted (its run was removed).
        reason: why it failed. epoch, epochs: finished and planned. recorded: splits recorded with the present weights.
        progress: the last that was written. memory: bytes that the process holds, 0 if it does not run.

    Example:
        >>> status = Status(FAILED, "memory ran out", 1, 3, (), None, 0)
        >>> status.active, status.resumable
        (False, True)
    """

    state: str
    reason: str
    epoch: int
    epochs: int
    recorded: tuple[str, ...]
    progress: Progress | None
    memory: int

    @property
    def active(self) -> bool:
        """Whether its process runs."""
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        """Whether `resume` can continue it."""
        return self.state in (STOPPED, FAILED)


def job_status(job: Job) -> Status:
    """The status of a job, read from its files, its run's files and its process.

    Example:
        A job that was stopped before its first epoch, its process long gone:

        >>> job = Job("never-trained", 4321, ("-m", "dmpo_explore.cli", "train"), 0.0, 0, "progress-1.json", True)
        >>> job_status(job).state
        'stopped'
    """
    process = process_of(job)  # first: files are read once it is known whether the process has ended
    run = Run(runs_root() / job.name)
    epochs = _planned(job)
    epoch, recorded = finished_epochs(run.path), _recorded(run)
    progress = read_progress(job.folder / job.progress)
    memory = 0
    if process is not None:
        with suppress(psutil.Error):
            memory = process.memory_info().rss
    state, reason = STOPPING if job.stop_asked else RUNNING, ""
    if process is None:
        ended = progress is None or progress.what == DONE  # else the card's results may be missing
        complete = 0 < epochs <= epoch and recorded == default_splits(run.path) and ended
        state, reason = _ended(job, complete=complete, progress=progress, run=run)
    return Status(state, reason, epoch, epochs, recorded, progress, memory)


def _planned(job: Job) -> int:
    try:
        return job.config.training.epochs
    except (OSError, ValueError):
        return 0


def _recorded(run: Run) -> tuple[str, ...]:
    """Splits whose record is of the present weights; these are read again only where a file has changed."""
    splits, records = default_splits(run.path), run.path / "records"
    weights, *made = stamps = [_stamp(run.path / WEIGHTS), *(_stamp(records / name / "meta.json") for name in splits)]
    outdated = _outdated(run.path, tuple(stamps))
    return tuple(name for name, stamp in zip(splits, made, strict=True) if stamp and weights and name not in outdated)


@lru_cache(maxsize=64)
def _outdated(path: Path, stamps: tuple[object, ...]) -> tuple[str, ...]:
    del stamps
    return tuple(outdated_splits(Run(path)))


def _stamp(path: Path) -> tuple[int, ...]:
    """Values that change with a file; empty if there is no such file. No order of times is assumed: clocks jump."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ended(job: Job, *, complete: bool, progress: Progress | None, run: Run) -> tuple[str, str]:
    """State and reason of a job whose process has ended."""
    if complete:
        return FINISHED, ""
    if progress is not None and progress.what == DONE and not (run.path / "config.json").is_file():
        return DELETED, ""
    if job.stop_asked:
        return STOPPED, ""
    path = job.folder / "log.txt"
    size = path.stat().st_size if path.is_file() else 0
    return FAILED, error_line(log_tail(path, min(20_000, max(0, size - job.log_from)))) or PROCESS_GONE


def error_line(text: str) -> str:
    """The last line of a log that names an error; empty if there is none.

    Example:
        >>> error_line("epoch 1\\nerror: no GPU")
        'no GPU'
    """
    lines = [line.strip() for line in text.splitlines() if ERROR_LINE.match(line.strip())]
    return lines[-1].removeprefix("error: ") if lines else ""

"""Background processes: start, signal, find again, and the lock under which that is done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import psutil
from filelock import FileLock, Timeout

from ..runs.store import runs_root

KIND = ["nice", "-n", "10"] if shutil.which("nice") else []  # a lower priority than the app's
NOT_KNOWN = 0  # the number of a process whose starter was killed before it could write it


class Started(Protocol):
    """A process that was started: its number and its command line without the interpreter."""

    @property
    def pid(self) -> int: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which processes whose files are in ``folder`` are started and stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=20):
            yield
    except Timeout:
        raise OSError(f"another process holds {folder / '.lock'}; try again") from None


def start_process(arguments: Sequence[str], stream: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start Python with these arguments as a process that survives this one; ``stream`` gets its output."""
    process = subprocess.Popen([*KIND, sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=stream,
                               stderr=subprocess.STDOUT, env=child_environment(), **detached())  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay a zombie
    return process


def child_environment() -> dict[str, str]:
    """Environment of a job: this process's runs root, unbuffered output."""
    return os.environ | {"DMPO_EXPLORE_RUNS": str(runs_root().resolve()), "PYTHONUNBUFFERED": "1"}


def detached() -> dict[str, Any]:
    """`subprocess.Popen` arguments of a process that survives this one."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


def stop_signals() -> tuple[int, ...]:
    """The signals that end a job, from the mildest to the last."""
    if sys.platform == "win32":
        return (signal.CTRL_BREAK_EVENT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def process_of(job: Started) -> psutil.Process | None:
    """A job's process, if it runs; None also for a process that may not be inspected."""
    if job.pid == NOT_KNOWN:
        return next((process for process in psutil.process_iter() if _command(process, job) == job.arguments), None)
    with suppress(psutil.Error):
        process = psutil.Process(job.pid)
        for _ in range(20):
            if command := _command(process, job):
                return process if command == job.arguments else None
            time.sleep(0.01)  # it has none for a moment while it becomes another program
    return None


def _command(process: psutil.Process, job: Started) -> tuple[str, ...]:
    with suppress(psutil.Error):
        return tuple(process.cmdline()[-len(job.arguments) :])
    return ()


def end_process(job: Started, grace: float) -> None:
    """Interrupt a job's process; after ``grace`` seconds terminate it, after as many more kill it."""
    for kind in stop_signals():
        end = time.monotonic() + grace
        if (process := process_of(job)) is not None:
            try:
                process.send_signal(kind)
            except psutil.NoSuchProcess:
                return
        while time.monotonic() < end:
            if process_of(job) is None:
                return
            time.sleep(0.05)

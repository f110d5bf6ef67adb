"""Background processes: start, signal, find again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import psutil

from ..runs.store import runs_root
from .job import Job

KIND = ["nice", "-n", "10"] if shutil.which("nice") else []  # a lower priority than the app's


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


def process_of(job: Job) -> psutil.Process | None:
    """The job's process, if it runs; None also for a process that may not be inspected."""
    with suppress(psutil.Error):
        process = psutil.Process(job.pid)
        for _ in range(20):
            line = process.cmdline()
            if line:
                break
            time.sleep(0.01)  # it has none for a moment while it becomes another program
        if tuple(line[-len(job.arguments) :]) == job.arguments:
            return process
    return None

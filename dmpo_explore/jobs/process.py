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

KIND = ["nice", "-n", "10"] if shutil.which("nice") else []  # whoever looks on comes first


def child_environment() -> dict[str, str]:
    return os.environ | {"DMPO_EXPLORE_RUNS": str(runs_root().resolve()), "PYTHONUNBUFFERED": "1"}


def detached() -> dict[str, Any]:
    """Arguments of a process that does not end with ours and lets others go first."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


def masked_signals() -> tuple[int, ...]:
    if sys.platform == "win32":
        return (signal.CTRL_BREAK_EVENT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def process_of(job: Job) -> psutil.Process | None:
    """The job's process, if it is alive and really its own; one that we may not look into is somebody else's."""
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

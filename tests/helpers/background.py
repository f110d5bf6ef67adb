"""Jobs and live runs in the background: what they run, and how to wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny import tiny_config

from dmpo_explore import jobs
from dmpo_explore.jobs import jobs as processes

if TYPE_CHECKING:
    from dmpo_explore.inference.live import LiveRun, Look

CONFIG = tiny_config(epochs=12)
# Commands in place of the real one where only the process matters.
SLEEPS = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); open('deaf', 'w'); time.sleep(60)"
SPEAKS = "import json, sys; json.dump(sys.argv, open('argv.json', 'w')); sys.exit('error: no luck today')"
BREAKS = "raise KeyError('what')"


def become(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let jobs be ``code`` instead of the command line."""
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr(processes, "MODULE", ["-u", str(script)])


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [(job.name, jobs.job_status(job), job.log()) for job in jobs.list_jobs()]
        time.sleep(0.05)


def state(name: str) -> str:
    return jobs.job_status(jobs.load_job(name)).state


def until(live: LiveRun, wanted: Callable[[Look], bool]) -> Look:
    """Its first look that is ``wanted``; fails after a while."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if wanted(look := live.look()):
            return look
        time.sleep(0.002)
    raise AssertionError(f"it never came: {live.look()}")


def ended(live: LiveRun) -> Look:
    """Its last look, once its thread is gone."""
    look = until(live, lambda look: not look.alive)
    live.stop(wait=20)
    assert not [thread for thread in threading.enumerate() if thread is live._thread]
    return look

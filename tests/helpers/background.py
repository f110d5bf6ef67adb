"""Jobs for tests: what they run, and how to wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_config

from dmpo_explore import jobs
from dmpo_explore.jobs import jobs as starting

CONFIG = tiny_config(epochs=12)
# Commands in place of the real one where only the process matters.
SLEEPS = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); open('deaf', 'w'); time.sleep(60)"
SPEAKS = "import json, sys; json.dump(sys.argv, open('argv.json', 'w')); sys.exit('error: no luck today')"
BREAKS = "raise KeyError('what')"


def become(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: object = starting) -> None:
    """Let jobs, or what else ``kind`` starts, be ``code`` instead of the command line."""
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr(kind, "MODULE", ["-u", str(script)])


def ended(name: str = "mine") -> starting.Status:
    """The status of a job that has come to its end."""
    wait(lambda: not jobs.job_status(jobs.load_job(name)).active)
    return jobs.job_status(jobs.load_job(name))


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [(job.name, jobs.job_status(job), job.log()) for job in jobs.list_jobs()]
        time.sleep(0.05)


def state(name: str) -> str:
    return jobs.job_status(jobs.load_job(name)).state

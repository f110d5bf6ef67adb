"""The processes of jobs: one at a time, ended when asked, never mistaken for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from background import CONFIG, DEAF, SLEEPS, become, state, wait

from dmpo_explore import jobs
from dmpo_explore.jobs import jobs as job_module

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def test_a_recycled_number_is_neither_believed_nor_ended(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    jobs.stop("mine")
    stranger = subprocess.Popen([sys.executable, *job.arguments[:-1], "--progress=another"])  # nearly its command line
    try:
        path = root / ".jobs" / "mine" / "job.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": stranger.pid, "stop_asked": False}))
        assert state("mine") == jobs.FAILED
        jobs.stop("mine", grace=0.1)
        assert stranger.poll() is None and not jobs.load_job("mine").stop_asked
        assert jobs.start(CONFIG, "other").pid != stranger.pid  # it does not count as running
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_one_at_a_time_unless_asked(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    outcomes: list[object] = []

    def try_it(name: str) -> None:
        try:
            outcomes.append(jobs.start(CONFIG, name))
        except FileExistsError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=try_it, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = [outcome for outcome in outcomes if isinstance(outcome, jobs.Job)]
    with pytest.raises(FileExistsError, match="is already running"):
        jobs.start(CONFIG, first.name, beside=True)
    second = jobs.start(CONFIG, "second", beside=True)
    assert [job.name for job in jobs.list_jobs()] == ["second", first.name]
    assert jobs.job_status(first).active and jobs.job_status(second).active
    jobs.stop(second.name)
    assert jobs.job_status(first).active and state("second") == jobs.STOPPED


def test_who_does_not_hear_ctrl_c_is_ended(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(DEAF, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    wait((tmp_path / "deaf").exists)
    start = time.monotonic()
    jobs.stop("mine", grace=0.3)
    assert 0.3 <= time.monotonic() - start < 10 and state("mine") == jobs.STOPPED
    wait(lambda: not psutil.pid_exists(job.pid))  # nor does it stay a zombie
    jobs.stop("mine")  # twice does no harm


def test_a_job_outlives_who_started_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    code = (
        "from dmpo_explore.config import Config; from dmpo_explore.jobs import jobs\n"
        f"jobs.MODULE = {job_module.MODULE!r}\n"
        "jobs.start(Config(), 'mine')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)
    job = jobs.load_job("mine")
    assert jobs.job_status(job).active and os.getsid(job.pid) == job.pid != os.getsid(0)
    assert psutil.Process(job.pid).nice() == min(19, os.nice(0) + 10)
    jobs.stop("mine")
    assert state("mine") == jobs.STOPPED

"""The process of a job: its environment, and that a number taken by another program is not taken for it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from background import CONFIG, SLEEPS, become

from dmpo_explore import jobs
from dmpo_explore.jobs.jobs import NOT_KNOWN, child_environment, process_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def test_a_job_sees_the_runs_root_of_who_starts_it(root: Path) -> None:
    environment = child_environment()
    assert environment["DMPO_EXPLORE_RUNS"] == str(root.resolve()) and environment["PYTHONUNBUFFERED"] == "1"
    assert environment["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]


def test_only_its_own_command_is_a_jobs_process(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    found = process_of(job)
    assert found is not None and found.pid == job.pid
    assert process_of(replace(job, pid=os.getpid())) is None
    jobs.stop("mine", grace=0.5)
    assert process_of(job) is None


def test_a_job_whose_starter_died_before_it_knew_the_number_is_found(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    job = jobs.start(CONFIG, "mine")
    path = job.folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": NOT_KNOWN}))
    found = process_of(jobs.load_job("mine"))
    assert found is not None and found.pid == job.pid
    with pytest.raises(FileExistsError, match="'mine' is already running"):
        jobs.start(CONFIG, "mine")
    jobs.stop("mine", grace=0.5)
    assert process_of(job) is None and jobs.job_status(jobs.load_job("mine")).state == jobs.STOPPED


def test_a_process_that_cannot_be_started_leaves_a_job_that_says_why(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(root / "no-python"))
    monkeypatch.setattr("dmpo_explore.jobs.jobs.KIND", [])
    with pytest.raises(FileNotFoundError):
        jobs.start(CONFIG, "mine")
    status = jobs.job_status(jobs.load_job("mine"))
    assert status.state == jobs.FAILED and "no-python" in status.reason

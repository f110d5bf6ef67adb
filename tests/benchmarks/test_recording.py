"""The benchmark of large recordings: a small one is measured whole, and its page shows the kept rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import recording
from dmpo_explore.utils.files import read_json


@pytest.mark.slow
def test_a_recording_by_two_processes_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recording, "RESULTS", tmp_path)
    monkeypatch.setattr(recording, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("<!-- recording -->\n<!-- end of recording -->\n")
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", os.environ.get("DMPO_EXPLORE_RUNS", "runs"))  # the benchmark sets it
    assert recording.main(["--images", "300", "--write"]) == 0
    (row,) = json.loads((tmp_path / "recording.json").read_text())["rows"]
    assert (row["images"], row["processes"]) == (300, 2) and row["cpu_s"] > 1
    assert 100 < row["largest_process_mib"] < row["together_mib"] and row["record_mib"] > 0
    assert "| 300" in capsys.readouterr().out and "| 300" in (tmp_path / "page.md").read_text()


def test_the_page_shows_the_kept_rows() -> None:
    rows = read_json(recording.RESULTS / "recording.json")["rows"]
    assert "\n".join(recording.as_markdown(rows)) in recording.PAGE.read_text(encoding="utf-8")

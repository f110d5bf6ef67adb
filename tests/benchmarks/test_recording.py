"""The benchmark of large recordings: its shards are read as they were written, and a small one is measured whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import recording
from dmpo_explore.data.image_files import decode_image
from dmpo_explore.data.readers.tar_shards import read_samples
from dmpo_explore.utils.files import read_json


def test_shards_hold_different_files_of_few_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SHARD", 4)
    recording.write_shards(tmp_path, "test", 6, recording.jpegs(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test-0000.tar", "test-0001.tar"]
    samples = read_samples(tmp_path, ["test-0000.tar", "test-0001.tar"])
    contents = [sample.image.read() for sample in samples]
    assert [sample.label for sample in samples] == list(range(6)) and len(set(contents)) == 6
    pictures = [decode_image(content, "a") for content in contents]
    assert np.array_equal(pictures[0], pictures[4]) and not np.array_equal(pictures[0], pictures[1])


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

"""`dmpo-explore check`, of `cli.doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from calls import call, fails


def test_a_valid_folder_is_said_to_be_valid(runs: Path) -> None:
    for name in ("mine", runs / "mine"):
        assert call("check", name).stdout == f"run {runs / 'mine'} (records: test, val): valid\n"
    done = call("check", runs / "mine/records/val")
    assert "exits, 10 classes): valid" in done.stdout and done.stderr == ""
    assert json.loads(call("check", "demo", "--json").stdout)["valid"] is True


def test_every_problem_is_a_line_and_the_status_is_1(runs: Path) -> None:
    folder = runs / "mine/records/val"
    np.save(folder / "scores/confidence.npy", np.full_like(np.load(folder / "scores/confidence.npy"), 70))
    (folder / "labels.npy").unlink()
    done = call("check", "mine", status=1)
    first, *lines = done.stdout.splitlines()
    assert first == f"run {runs / 'mine'} (records: test, val): 2 problems"
    assert "labels.npy is missing" in lines[0] and "70.0 at image 0" in lines[1] and len(lines) == 2
    assert done.stderr == f"error: {runs / 'mine'} is not a valid run; correct these and repeat\n"
    answer = json.loads(call("check", folder, "--json", status=1).stdout)
    assert [row["file"] for row in answer["problems"]] == ["labels.npy", "scores/confidence.npy"]
    assert (answer["kind"], answer["valid"], answer["format_version"]) == ("record", False, 1)


def test_no_folder_is_one_line(runs: Path, tmp_path: Path) -> None:
    assert "is no folder" in fails("check", tmp_path / "none")
    assert "holds neither a run" in fails("check", tmp_path)

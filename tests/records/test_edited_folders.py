"""Random edits of a run folder, a few of those that `scripts/bench faults` makes."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import dmpo_explore as dx
from _faults import edited_folders
from _faults.endings import ending_of


def test_edited_folders_are_read_or_refused(tmp_path: Path) -> None:
    whole = dx.load_run("demo-cnn")
    run = Path(shutil.copytree(whole.path, tmp_path / "run", ignore=shutil.ignore_patterns("records")))
    for split in ("val", "test"):
        whole.record(split).subset(slice(200)).save(run / "records" / split)
    edited, chance = edited_folders.Edited(run, tmp_path / "edited"), random.Random(3)
    endings = [ending_of(lambda: edited.trial(chance), 60) for _ in range(8)]
    assert {"clear error"} <= {ending for ending, _ in endings} <= {"clean", "clear error"}, endings
    assert edited_folders.answers(edited.path) == edited.whole  # each was undone


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("1", "same"),
        ("2", "other"),
        (ValueError("labels.npy is short"), "refused"),
        (ValueError("something is short"), "record: ValueError"),
        (OSError("labels.npy" * 1000), "record: OSError"),
        (KeyError("labels.npy"), "record: KeyError"),
        (TimeoutError("labels.npy took 3 s"), "record: TimeoutError"),
    ],
)
def test_a_verdict(answer: object, verdict: str) -> None:
    assert edited_folders.verdict_on({"record": answer}, {"record": "1"}, ["labels.npy"]).startswith(verdict)

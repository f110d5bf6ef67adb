"""Finished epochs are counted from checkpoint and history, without torch."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import torch
from run_folders import CONFIG

from dmpo_explore.runs.epochs import CHECKPOINT, checkpoint_epoch, finished_epochs


@pytest.mark.parametrize("epoch", [0, 1, 255, 256, 70_000])
def test_the_epoch_of_a_checkpoint_is_read_without_unpickling(tmp_path: Path, epoch: int) -> None:
    state = {"epoch": epoch, "best": 0.5, "schedule": {"last_epoch": 7}}
    weights = {"epoch.weight": torch.ones(3)}
    torch.save({"state": state, "weights": weights, "best": {}, "history": [{"epoch": 9}]}, tmp_path / CHECKPOINT)
    assert checkpoint_epoch(tmp_path / CHECKPOINT) == epoch


def test_what_is_no_checkpoint_has_no_epoch(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    assert checkpoint_epoch(path) is None
    torch.save({"weights": {}}, path)
    for content in (path.read_bytes(), b"", b"text"):
        path.write_bytes(content)
        assert checkpoint_epoch(path) is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}X\x05\x00\x00\x00epoch")  # ends too early
    assert checkpoint_epoch(path) is None


def test_an_epoch_counts_once_it_is_in_both(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    assert finished_epochs(tmp_path) == 0
    (tmp_path / "history.csv").write_text("epoch,area\n1,0.5\n2,0.6\n")
    assert finished_epochs(tmp_path) == 2  # a run without a checkpoint
    for saved, finished in ((1, 1), (2, 2), (3, 2)):
        torch.save({"state": {"epoch": saved}}, tmp_path / CHECKPOINT)
        assert finished_epochs(tmp_path) == finished
    (tmp_path / "history.csv").write_text("")
    assert finished_epochs(tmp_path) == 0


def test_counting_needs_no_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"state": {"epoch": 3}}, tmp_path / CHECKPOINT)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert checkpoint_epoch(tmp_path / CHECKPOINT) == 3

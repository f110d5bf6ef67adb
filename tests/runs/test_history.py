"""history.csv: a table of whole rising epochs and numbers, or an error that names the file; finished epochs."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import torch
from run_folders import CONFIG

from dmpo_explore.runs.run_files import CHECKPOINT, checkpoint_epoch, finished_epochs, read_history


def test_a_table_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,lambda_1,loss_1,accuracy_1,area\n1,0.5,1,1,\n2,1e-3,1,1,.25\n")
    table = read_history(path)
    assert table["epoch"].tolist() == [1, 2] and table["lambda_1"].tolist() == [0.5, 0.001]
    assert table["area"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No columns to parse"),
        ("a,b\n1,2\n", "no column 'epoch'"),
        ("epoch,area\n1,x\n", r"columns that are not numbers: \['area'\]"),
        ("epoch\n1\n1.5\n", r"'epoch' must be whole rising numbers from 1, not \[1.0, 1.5\]"),
        ("epoch\n2\n1\n", r"not \[2, 1\]"),
        ("epoch\n1\n1\n", r"not \[1, 1\]"),
        ("epoch\n0\n", r"not \[0\]"),
        ("epoch\ninf\n", r"not \[inf\]"),
        ("epoch,lambda_1,loss_1,accuracY_1,area\n1,1,1,1,1\n", r"lacks \['accuracy_1'\]"),
        ("epoch,lambda_1,loss_1,accuracy_1\n1,1,1,1\n", r"lacks \['area'\]"),
        ("epoch,lambda_1,lambda_2,loss_1,accuracy_1,area\n1,1,1,1,1,1\n", r"lacks \['loss_2', 'accuracy_2'\]"),
        ("epoch" + ",a" * 10_000, "more than 10,000 columns"),
    ],
)
def test_what_is_no_history_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"history\.csv is not a table of epochs: .*{message}"):
        read_history(tmp_path / "history.csv")


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

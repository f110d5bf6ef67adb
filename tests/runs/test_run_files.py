"""The files of a run folder, `runs.run_files`: config, history, checkpoint, weights; a whole run has no others."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from run_folders import CONFIG

import dmpo_explore as dx
from dmpo_explore.config import ModelConfig
from dmpo_explore.data.manifest import MANIFESTS
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.runs import Run, load_run, read_weights, save_weights
from dmpo_explore.runs.run_files import (
    CHECKPOINT,
    RECORD_FILES,
    RUN_FILES,
    RUN_NAME,
    backbone_sha256,
    checkpoint_epoch,
    finished_epochs,
    read_config,
    read_history,
    read_weights_meta,
)
from dmpo_explore.utils.options import option

BUNDLED = Path(dx.__file__).parent / "runs" / "bundled"


@pytest.mark.parametrize("name", ["demo", "fashion"])
def test_the_files_of_a_whole_run_are_known(name: str) -> None:
    run = dx.Run(BUNDLED / name)
    found = {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()}
    records = {f"records/{split}/{file}" for split in run.splits() for file in RECORD_FILES}
    assert records and found - {*RUN_FILES, *MANIFESTS} <= records and RUN_NAME.fullmatch(name)


# -- config.json --


def test_a_config_is_read_and_an_error_names_its_file(mine: Path) -> None:
    path = mine / "config.json"
    assert read_config(path) == CONFIG
    path.write_text('{"training": {"epochs": 0}}')
    with pytest.raises(ValueError) as raised:
        read_config(path)
    assert str(raised.value) == f"{path}: epochs=0 must be at least 1"


def test_no_depth_of_nesting_is_another_error(mine: Path) -> None:
    path = mine / "config.json"
    for depth in (500, *range(950, 1010), 20_000):
        path.write_text('{"model": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_config(path)


@dataclass(frozen=True)
class Icing:
    sugar: int = option(0, "Grams of sugar.")


def test_what_is_kept_of_a_config_ends_with_the_part_that_has_its_option(mine: Path) -> None:
    path = mine / "config.json"
    path.write_text('{"model": {"sugar": 3}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BYPASSES, "mine", SimpleNamespace(options=Icing))  # type: ignore[arg-type]
        assert read_config(path) is read_config(path) and read_config(path).model.part(Icing).sugar == 3
    with pytest.raises(ValueError, match="unknown key in config.model 'sugar'"):
        read_config(path)


# -- history.csv: whole rising epochs and numbers, or an error that names the file --


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
        ('"', ""),
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


# -- checkpoints: how many epochs are finished --


@pytest.mark.parametrize("epoch", [0, 1, 255, 256, 70_000])
def test_the_epoch_of_a_checkpoint_is_read_without_unpickling(
    tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"epoch": epoch, "best": 0.5, "schedule": {"last_epoch": 7}}
    weights = {"epoch.weight": torch.ones(3)}
    torch.save({"state": state, "weights": weights, "best": {}, "history": [{"epoch": 9}]}, tmp_path / CHECKPOINT)
    monkeypatch.setitem(sys.modules, "torch", None)  # it is counted without
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


# -- the header of the weights --


def test_the_header_names_backbone_and_classes(trained: Run) -> None:
    meta = read_weights_meta(trained.path)
    assert (meta["backbone"], meta["backbone_sha256"]) == ("test_vit", "")
    assert trained.class_names == tuple("0123456789")
    save_weights(trained.path, {"a": torch.zeros(2)}, CONFIG.model)
    assert load_run("mine").class_names == tuple("0123456789")  # then from the data
    assert backbone_sha256(ModelConfig()).startswith("198644e3")


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    state = {name: torch.full((3, 2), float(i)) for i, name in enumerate(("b", "a", "c.d"))}
    files = []
    for names in (("a", "b", "c.d"), ("c.d", "b", "a")) * 4:  # the library orders a header's texts at random
        save_weights(tmp_path, {name: state[name] for name in names}, CONFIG.model, ("cat", "dög"))
        files.append((tmp_path / "weights.safetensors").read_bytes())
    assert len(set(files)) == 1
    assert all(torch.equal(value, state[name]) for name, value in read_weights(tmp_path).items())
    assert json.loads(read_weights_meta(tmp_path)["class_names"]) == ["cat", "dög"]
    assert int.from_bytes(files[0][:8], "little") % 8 == 0

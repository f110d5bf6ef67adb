"""Settings in which runs differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import CONFIG, make_run

from dmpo_explore.config import OPTIONS, Config
from dmpo_explore.neighbours.slimming.options import Slimming
from dmpo_explore.runs import Run
from dmpo_explore.runs.setting_differences import config_differences


def run_of(root: Path, name: str, **changes: object) -> Run:
    """A run whose config differs from `CONFIG` in these options, ``part_name``."""
    return Run(make_run(root / name, CONFIG.updated({key.replace("_", ".", 1): changes[key] for key in changes})))


@pytest.mark.parametrize(
    ("changes", "index", "columns"),
    [
        (
            {"a": {}, "b": {"model_exits": [1, 2], "training_flip": False, "data_train_size": 40}},
            ["data.train_size", "model.exits", "training.flip"],
            {"a": ["all", "2", "on"], "b": ["40", "1,2", "off"]},  # as it is typed
        ),
        ({"a": {}, "b": {"training_clip_norm": None}}, ["training.clip_norm"], {"a": ["1.0"], "b": ["no clipping"]}),
        ({"a": {}, "b": {"training_seed": 7}}, ["training.seed"], {"a": ["3"], "b": ["7"]}),
        (
            {"b": {"model_rank": 4}, "c": {"model_rank": 2}, "a": {"model_rank": 4}},  # in their order
            ["model.rank"],
            {"b": ["4"], "c": ["2"], "a": ["4"]},
        ),
        ({"a": {}, "c": {}}, [], {"a": [], "c": []}),
        ({"a": {}}, [], {"a": []}),
    ],
)
def test_a_row_per_option_that_differs(
    tmp_path: Path, changes: dict[str, dict[str, object]], index: list[str], columns: dict[str, list[str]]
) -> None:
    found = config_differences([run_of(tmp_path, name, **change) for name, change in changes.items()])
    assert found.index.name == "option" or not index
    assert found.index.tolist() == index
    assert found.to_dict("list") == columns and list(found) == list(columns)


def test_no_runs_differ_in_nothing() -> None:
    assert config_differences([]).shape == (0, 0)


def test_a_run_without_a_config_has_no_column_and_a_broken_one_is_named(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "a"), Run(tmp_path / "scores"), run_of(tmp_path, "b", model_rank=2)]
    assert config_differences(runs).loc["model.rank"].to_dict() == {"a": "4", "b": "2"}
    (tmp_path / "b/config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        config_differences([Run(tmp_path / "b")])


def test_what_no_value_stands_for_is_read_from_the_help(tmp_path: Path) -> None:
    empty = {key for key, found in OPTIONS.items() if found.optional}
    typed = {key: "x" if str in OPTIONS[key].kinds else 8 for key in empty} | {"data.calibration": True}
    values = {"none": dict.fromkeys(empty), "typed": typed}
    runs = [Run(make_run(tmp_path / name, CONFIG.updated(changes))) for name, changes in values.items()]
    assert config_differences(runs)["none"].to_dict() == {
        "data.root": "DMPO_EXPLORE_DATA",
        "data.train_size": "all",
        "data.train_dir": "none",
        "data.val_dir": "10 % of train",
        "data.calibration_dir": "none",
        "data.test_dir": "none",
        "data.image_key": "the only one",
        "data.label_key": "the only one",
        "data.unlabelled": "none",
        "data.class_names": "none",
        "data.calibration": "where it is large enough",
        "data.path_column": "path",
        "data.label_column": "label",
        "data.suffix": "nothing",
        "data.image_dir": "the table's",
        "model.tune_layers": "by kind",
        "training.clip_norm": "no clipping",
        "training.teacher_exit": "its last",
        "training.teacher_size": "that of the run",
    }


def test_a_slimmed_run_differs_from_its_teacher(tmp_path: Path) -> None:
    values = CONFIG.to_dict()
    values["model"]["slimming"] = {"run": "wide", "heads": [1, 2], "ffn": [5, 6]}
    thin = Run(make_run(tmp_path / "thin", Config.from_dict(values)))
    found = config_differences([run_of(tmp_path, "wide"), thin])
    assert found["thin"].to_dict() == {
        "model.slimming.run": "wide",
        "model.slimming.heads": "1,2",
        "model.slimming.ffn": "5,6",
        "model.slimming.importance": "all",
        "model.slimming.hidden_epochs": str(Slimming().hidden_epochs),
    }
    assert set(found["wide"]) == {"no slimming"}


def test_epochs_that_were_finished_differ(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "stopped"), run_of(tmp_path, "done"), run_of(tmp_path, "unknown")]
    for run, epochs in zip(runs, (1, 2), strict=False):
        rows = "".join(f"{epoch},0.5\n" for epoch in range(1, epochs + 1))
        (run.path / "history.csv").write_text(f"epoch,area\n{rows}")
    found = config_differences(runs)
    assert found.to_dict("split")["data"] == [["1", "2", "not recorded"]]
    assert found.index.tolist() == ["finished_epochs"]

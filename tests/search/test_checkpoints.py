"""What an epoch leaves behind: its points always, its run if it extends the front."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import made
from synthetic import make_record

from dmpo_explore.config import Config, ModelConfig
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.search import search_run
from dmpo_explore.search.goal import Goal, operating_points
from dmpo_explore.search.search_run import Keeper, remove_trial, tidy, trial_mark
from dmpo_explore.search.space import SearchSpace
from dmpo_explore.search.study import MARK, epochs_of, open_study, read_front, suggest
from dmpo_explore.training.loop import EpochResult
from dmpo_explore.training.train import prepared

pytestmark = [
    pytest.mark.usefixtures("runs"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),  # asked for without a worker
]
SPACE = SearchSpace.from_dict({"space": {"rank": [4, 8]}})
CONFIG = Config(model=ModelConfig("test_vit", "random", 32, exits=3, rank=4, bypass_width=6, channels=8))


def result(epoch: int, record: ExitRecord) -> EpochResult:
    return EpochResult(epoch, 3, (1.0,) * 4, (0.5,) * 4, 0.5, (0.5,) * 4, 0.5, 1e-3, 2.0, True, record=record)


def wrong(record: ExitRecord) -> ExitRecord:
    """The same, but nobody is right."""
    labels = (np.asarray(record.prediction[:, -1]) + 1) % 5
    prediction = np.repeat(((labels + 1) % 5)[:, None], 4, axis=1).astype(np.int32)
    return ExitRecord(labels, prediction, record.confidence, record.entropy, record.margin, record.meta)


def test_points_are_noted_and_what_extends_the_front_is_kept(runs: Path) -> None:
    study, record = open_study("s", SPACE, None, resume=False, patience=60), make_record()
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 3)
    keep, model = Keeper(study, trial, 0, CONFIG, Goal(), "cpu"), made(exits=3)
    keep(model, result(1, record))
    entry = epochs_of(study.get_trials()[0])[1]
    assert entry["accuracy"] == operating_points(record, Goal())["accuracy"].tolist() and entry["seconds"] == 2.0
    assert entry["hypervolume"] == pytest.approx(read_front(study).hypervolume)

    run = load_run("s-000-e1")
    assert run.config == prepared(CONFIG, "s-000", "cpu", resume=False) != CONFIG
    assert run.splits() == ["val"] and run.history()["epoch"].tolist() == [1]
    assert np.array_equal(run.record("val").prediction, record.prediction)
    weights, state = read_weights(run.path), model.trainable_state()
    assert weights.keys() == state.keys() and all((weights[name] == state[name]).all() for name in state)
    mark = {"study": "s", "trial": 0, "epoch": 1, "id": study.user_attrs["id"]}
    assert json.loads((run.path / MARK).read_text()) == mark
    assert run.class_names == record.meta.class_names and "| 0.3000 |" in run.card() and "rank" in run.card()

    (runs / "s-000").mkdir()
    (runs / "s-000" / "config.json").write_text(CONFIG.to_json())
    (runs / "s-000" / "history.csv").write_text("epoch,seconds\n1,2.0\n")
    keep(model, result(2, wrong(record)))
    assert epochs_of(study.get_trials()[0])[2]["seconds"] == 4.0  # so far
    assert not (runs / "s-000-e2").exists()
    keep(model, result(2, record))  # as good as epoch 1, but later
    assert not (runs / "s-000-e2").exists()


@pytest.mark.slow
def test_a_weights_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.safetensors").write_bytes(b"")
    study = open_study("s", SPACE, None, resume=False, patience=60)
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 3)
    config = replace(CONFIG, model=replace(CONFIG.model, weights="own.safetensors"))
    Keeper(study, trial, 0, config, Goal())(made(exits=3), result(1, make_record()))
    assert load_run("s-000-e1").config.model.weights == str(tmp_path / "own.safetensors")


def test_what_is_off_the_front_goes_but_for_what_is_not_ours(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study("s", SPACE, None, resume=False, patience=60)
    for name, study_name, splits in (
        ("s-000-e1", "s", ["val"]),
        ("s-000-e2", "s", ["val", "test"]),
        ("s-000-e3", "other", ["val"]),
        ("s-000-e4", None, ["val"]),
    ):
        for split in splits:
            make_record().save(runs / name / "records" / split)
        (runs / name / "config.json").write_text(CONFIG.to_json())
        if study_name:
            mark = {"study": study_name, "trial": 0, "epoch": 1, "id": study.user_attrs["id"]}
            (runs / name / MARK).write_text(json.dumps(mark))
    shutil.copytree(runs / "s-000-e1", runs / "s-000-e5")
    (runs / "s-000-e5" / "notes.txt").write_text("mine")
    shutil.copytree(runs / "s-000-e1", runs / "s-000-e6")
    (runs / "s-000-e6" / "records" / ".test.partial").mkdir()
    shutil.copytree(runs / "s-000-e1", runs / "s-000-e7")
    shutil.copytree(runs / "s-000-e1", runs / "s-000-e8")  # of a study of that name in another storage
    (runs / "s-000-e8" / MARK).write_text(json.dumps({**mark, "study": "s", "id": "another"}))
    front = search_run.read_front

    def meanwhile(of: Any) -> Any:
        shutil.rmtree(runs / "s-000-e7")  # by another worker
        return front(of)

    monkeypatch.setattr(search_run, "read_front", meanwhile)
    tidy(study)
    assert sorted(path.name for path in runs.glob("s-*")) == [f"s-000-e{k}" for k in (2, 3, 4, 5, 6, 8)]


def test_a_run_of_another_search_is_not_replaced(runs: Path) -> None:
    make_record().save(runs / "s-000-e1" / "records" / "val")
    study = open_study("s", SPACE, None, resume=False, patience=60)
    trial = study.ask()
    suggest(trial, SPACE)
    with pytest.raises(FileExistsError, match="s-000-e1 is not of this search; rename it"):
        Keeper(study, trial, 0, CONFIG, Goal(), "cpu")(made(exits=3), result(1, make_record()))
    assert not len(read_front(study).epochs)  # nor does a point name it


def test_of_equal_points_the_first_is_kept_whatever_the_clocks_say(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, now = open_study("s", SPACE, None, resume=False, patience=60), time.time()
    for number, clock in enumerate((now, now - 60)):  # the second worker's is behind
        monkeypatch.setattr(search_run.time, "time", lambda clock=clock: clock)
        trial = study.ask()
        suggest(trial, SPACE)
        trial.set_user_attr("planned", 1)
        Keeper(study, trial, number, CONFIG, Goal(), "cpu")(made(exits=3), result(1, make_record()))
        tidy(study)
    assert read_front(study).runs == ["s-000-e1"] and set(read_front(study).table["run"]) == {"s-000-e1"}


def test_a_trials_own_teacher_goes_with_it(runs: Path) -> None:
    study = open_study("s", SPACE, None, resume=False, patience=60)
    for name in ("s-000", "s-000-teacher", "s-001", "s-001-teacher"):
        (runs / name).mkdir()
        if name != "s-001-teacher":  # the user's
            (runs / name / MARK).write_text(trial_mark(study, 0)[MARK])
    for name in ("s-000", "s-001"):
        remove_trial(runs / name, study)
    assert [path.name for path in runs.iterdir() if path.is_dir()] == ["s-001-teacher"]

"""Studies and their fronts, on trials written by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest

from dmpo_explore.config import Config
from dmpo_explore.search.goal import Goal
from dmpo_explore.search.search_run import tidy, trial_mark
from dmpo_explore.search.space import SearchSpace
from dmpo_explore.search.study import (
    EPOCH,
    State,
    is_begun,
    kept_name,
    load_front,
    load_study,
    open_storage,
    open_study,
    read_front,
    settings_text,
    storage_file,
    suggest,
    working,
)

pytestmark = [
    pytest.mark.usefixtures("runs"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),  # asked for without a worker
]
SPACE = SearchSpace.from_dict({"space": {"rank": [4, 8, 16], "dropout": {"low": 0.0, "high": 0.5}}})


def begin(name: str = "s", space: SearchSpace = SPACE) -> optuna.Study:
    return open_study(name, space, None, resume=False, patience=60)


def add(study: optuna.Study, *epochs: list[tuple[float, float]], seconds: float = 10.0) -> optuna.Trial:
    """A trial whose epochs offer these points (accuracy, FLOPs fraction)."""
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 4)
    for number, pairs in enumerate(epochs, start=1):
        accuracy, flops = zip(*pairs, strict=True) if pairs else ((), ())
        entry = {"accuracy": accuracy, "flops_fraction": flops, "threshold": [0.1 * number] * len(pairs)}
        ended = sum(len(t.user_attrs) for t in study.get_trials())
        trial.set_user_attr(
            f"{EPOCH}{number}", entry | {"seconds": number * seconds, "ended": ended, "hypervolume": 0.1}
        )
    return trial


def make_run(runs: Path, name: str, study: optuna.Study | None = None) -> None:
    (runs / name).mkdir(parents=True)
    (runs / name / "config.json").write_text(Config().to_json())
    for file, text in (trial_mark(study, 0) if study else {}).items():
        (runs / name / file).write_text(text)


def test_the_front_is_over_every_epoch_of_every_trial(runs: Path) -> None:
    study = begin()
    study.tell(add(study, [(0.5, 0.3), (0.6, 0.5)], [(0.7, 0.6)]), (0.7, 0.6))
    study.tell(add(study, [(0.4, 0.2), (0.55, 0.5)], []), state=State.PRUNED)
    add(study, [(0.9, 0.9), (0.95, 1.2)])  # still at it
    study.tell(add(study), state=State.FAIL)
    make_run(runs, "s-000-e2", study)
    make_run(runs, "s-001-e1")  # another study's, or the user's
    front = read_front(study)
    rows = [tuple(row) for row in front.table[["run", "accuracy", "flops_fraction"]].itertuples(index=False)]
    assert rows == [
        ("s-001-e1", 0.4, 0.2),
        ("s-000-e1", 0.5, 0.3),
        ("s-000-e1", 0.6, 0.5),
        ("s-000-e2", 0.7, 0.6),
        ("s-002-e1", 0.9, 0.9),
    ]
    assert front.table["threshold"].tolist() == [0.1, 0.1, 0.1, 0.2, 0.1] and front.table["seconds"][3] == 20
    assert front.runs == ["s-000-e2"] and len(front.epochs) == 5
    assert front.hypervolume == pytest.approx(0.4 * 0.1 + 0.5 * 0.2 + 0.6 * 0.1 + 0.7 * 0.3 + 0.9 * 0.1)
    assert front.trials == {"finished": 1, "stopped": 1, "running": 1, "waiting": 0, "failed": 1}
    assert front.table["settings"][0] == study.get_trials()[1].params


@pytest.mark.slow
def test_of_equal_points_the_first_counts(runs: Path) -> None:
    study = begin()
    later, first = study.ask(), None
    suggest(later, SPACE)
    later.set_user_attr("planned", 4)
    first = add(study, [(0.5, 0.3)])
    entry = first.user_attrs[f"{EPOCH}1"] | {"ended": 1e9}
    later.set_user_attr(f"{EPOCH}1", entry)
    assert read_front(study).table["run"].tolist() == [kept_name(study, 1, 1)]


def test_an_empty_study_has_an_empty_front() -> None:
    begin()
    front = load_front("s")
    assert front.table.empty and front.runs == [] and front.hypervolume == 0
    assert json.loads(json.dumps(front.to_dict()))["front"] == []


@pytest.mark.slow
def test_the_space_and_the_goal_are_the_studys(tmp_path: Path) -> None:
    space = SearchSpace.from_dict(SPACE.to_dict() | {"goal": {"max_flops": 0.7, "max_seconds": 15.0}})
    study = begin("timed", space)
    assert len(study.directions) == 3 and storage_file().is_file()
    add(study, [(0.9, 0.8), (0.5, 0.4)], [(0.6, 0.4)])  # too dear; good; too late
    front = load_front("timed")
    assert front.goal == Goal(0.7, 15.0) and front.table["accuracy"].tolist() == [0.5]
    assert front.to_dict()["reference"] == {"accuracy": 0.0, "flops_fraction": 0.7, "seconds": 15.0}
    assert SearchSpace.from_dict(load_study("timed", None).user_attrs["space"]).to_dict() == space.to_dict()
    own = f"sqlite:///{tmp_path / 'own.db'}"
    open_study("elsewhere", space, own, resume=False, patience=60)
    assert load_front("elsewhere", own).study == "elsewhere"


def test_the_place_of_the_images_is_kept_so_that_any_folder_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    space = replace(SPACE, base=replace(SPACE.base, data=replace(SPACE.base.data, name="photos")))
    study = begin("moved", space)
    assert study.user_attrs["space"]["fixed"]["data"]["name"] == str(tmp_path / "photos")
    assert open_study("moved", space, None, resume=True, patience=60).study_name == "moved"  # the same, as typed


def test_names_of_studies_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no search yet: no file .*searches.db"):
        load_study("s", None)
    begin()
    with pytest.raises(ValueError, match="study 's' exists; continue it"):
        begin()
    with pytest.raises(ValueError, match=r"was begun with another space \(.*space.model.rank.*\); .*--resume s"):
        open_study("s", SearchSpace.from_dict({"space": {"rank": [4, 8]}}), None, resume=True, patience=60)
    assert open_study("s", SPACE, None, resume=True, patience=60).study_name == "s"
    assert open_study("s", None, None, resume=True, patience=60).study_name == "s"
    with pytest.raises(ValueError, match="unknown study 'ss'. Did you mean 's'"):
        load_front("ss")
    for name in ("../x", "", ".x", "x" * 81):
        with pytest.raises(ValueError, match="study name .* must be 1 to 80"):
            begin(name)
    optuna.create_study(storage=open_storage(f"sqlite:///{storage_file()}"), study_name="foreign")
    with pytest.raises(ValueError, match=r"study 'foreign' in .*searches.db is not a search"):
        load_front("foreign")


def test_a_study_whose_worker_was_killed_before_it_had_its_space_is_begun() -> None:
    url = f"sqlite:///{storage_file()}"
    storage_file().parent.mkdir(parents=True, exist_ok=True)
    optuna.create_study(storage=open_storage(url), study_name="s", directions=["maximize", "minimize"])
    assert not is_begun("s", None)
    assert begin().study_name == "s" and is_begun("s", None) and not is_begun("t", None)
    optuna.create_study(storage=open_storage(url), study_name="foreign")
    with pytest.raises(ValueError, match="study 'foreign' exists"):
        begin("foreign")


@pytest.mark.slow
def test_the_folder_of_a_trial_that_has_ended_is_removed_unless_it_is_a_later_run(runs: Path) -> None:
    study = begin()
    for name in ("s-000", "s-001"):
        make_run(runs, name, study)
    make_run(runs, "s-002")  # made by train --name s-002 before
    for _ in range(3):
        add(study, [(0.5, 0.3)])
    study.tell(0, (0.5, 0.3))
    study.tell(2, (0.5, 0.3))
    tidy(study)  # trial 1 is still at it
    assert not (runs / "s-000").exists() and (runs / "s-001").exists() and (runs / "s-002").exists()
    make_run(runs, "s-000")  # by train --name s-000
    tidy(study)
    assert (runs / "s-000").exists()


def test_a_trial_of_a_killed_worker_waits_as_soon_as_no_worker_is_left(runs: Path) -> None:
    study = begin()
    add(study, [(0.5, 0.3)])
    half_made = study.ask()  # killed before its first heartbeat
    with working(study, runs):  # the killed one left no lock
        assert [t.state for t in study.get_trials()] == [State.WAITING] * 2
    again = study.ask()
    assert again.number == 0 and again.user_attrs["planned"] == 4
    (runs / ".s.0123abcd.lock").touch()  # what a killed one leaves
    with working(study, runs):
        assert study.get_trials()[0].state is State.WAITING and not (runs / ".s.0123abcd.lock").exists()
        assert study.ask().number == 0
        with working(study, runs):  # another one, beside a living one
            assert study.get_trials()[0].state is State.RUNNING
    assert half_made.number == 1 and not list(runs.glob(".s.*"))


def test_a_trial_fails_that_kills_its_workers_in_the_same_epoch(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin()
    add(study, [(0.5, 0.3)])
    for boot, state in ((0.0, "waiting"), (math.inf, "waiting"), (0.0, "waiting"), (0.0, "failed")):
        monkeypatch.setattr(psutil, "boot_time", lambda boot=boot: boot)  # a machine that was stopped is no loss
        with working(study, runs):
            assert read_front(study).trials[state] == 1
        if state == "waiting":
            assert study.ask().number == 0
    assert study.get_trials()[0].user_attrs["error"] == "3 workers were killed or crashed in the same epoch"


def test_settings_in_words() -> None:
    assert settings_text({"model.rank": 8, "training.tuning_lr": 0.00123456, "model.exits": "[2, 4]"}) == (
        "rank 8, tuning_lr 0.00123, exits [2, 4]"
    )

"""Whole searches, tiny: the front and its runs, who is stopped, what fails, and what an interruption leaves."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from calls import start
from search_settings import PATIENCE, make_space, points

from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.cli.doctor import run_facts
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.search import search_run
from dmpo_explore.search.samplers import SAMPLERS
from dmpo_explore.search.search_run import SearchStep, run_search
from dmpo_explore.search.space import SearchSpace
from dmpo_explore.search.study import MARK, SearchFront, State, give_back, is_begun, load_front, load_study
from dmpo_explore.training import train as train_module

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.usefixtures("runs"), pytest.mark.slow]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchFront, list[SearchStep]]:
    """Three trials of two epochs."""
    root, steps = tmp_path_factory.mktemp("search"), list[SearchStep]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        front = run_search("s", make_space(), trials=3, device="cpu", seed=0, progress=steps.append)
    return root, front, steps


@pytest.fixture
def finished(done: tuple[Path, SearchFront, list[SearchStep]], runs: Path) -> SearchFront:
    """That search in a runs root of its own, to spoil."""
    shutil.copytree(done[0], runs)
    return done[1]


# -- the front --


def test_the_front_is_a_set_of_runs_and_nothing_else_is_kept(finished: SearchFront, runs: Path) -> None:
    names = set(finished.table["run"])
    assert {path.name for path in runs.iterdir()} == names | {"searches.db"}
    assert set(finished.runs) == names <= set(list_runs())
    for row in finished.table.to_dict("records"):
        run = load_run(row["run"])
        assert row["run"] == f"s-{row['trial']:03d}-e{row['epoch']}"
        assert run.splits() == ["val"] and run.history()["epoch"].tolist() == list(range(1, row["epoch"] + 1))
        assert run.config.model.bypass == row["settings"]["model.bypass"]
        val = run.record("val")
        found = summarise(val, fit_policy(val, threshold=row["threshold"]).exits(val))
        assert (found["accuracy"], found["flops_fraction"]) == pytest.approx((row["accuracy"], row["flops_fraction"]))
        assert f"epoch {row['epoch']}/2" in run_facts(row["run"])["facts"]
        assert run.card().startswith(f"# s, trial {row['trial']}, epoch {row['epoch']}\n")
    assert not list(runs.rglob("checkpoint.pt"))


def test_the_weights_are_those_of_the_chosen_epoch(finished: SearchFront) -> None:
    for name in finished.runs:
        run = load_run(name)
        val = run.record("val")
        with torch.inference_mode():
            predicted = run.model("cpu")(run.inputs("val")).argmax(-1).numpy()
        assert (predicted == val.prediction).mean() > 0.995  # another batch size may flip a tie


def test_the_runs_open_in_the_app(finished: SearchFront) -> None:
    from streamlit.testing.v1 import AppTest

    names = finished.runs[:2]
    assert len(names) == 2
    for view, address in (("explore", {"run": names[0]}), ("decide", {"runs": ",".join(names)})):
        app = AppTest.from_file(str(ROOT / "app" / "views" / f"{view}.py"), default_timeout=120)
        for key, value in address.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception and not app.error
        boxes = {box.label: box.value for box in [*app.selectbox, *app.multiselect]}
        assert boxes.get("Run", names[0]) == names[0] and boxes.get("Runs", names) == names
        assert app.get("plotly_chart" if view == "decide" else "bidi_component")


def test_it_can_be_read_again_and_written(finished: SearchFront) -> None:
    again = load_front("s")
    assert again.table.equals(finished.table) and again.to_dict() == finished.to_dict()
    values = json.loads(json.dumps(again.to_dict()))
    assert values["reference"] == {"accuracy": 0.0, "flops_fraction": 2.0} and values["epochs"] == 6
    assert values["front"][0]["here"] is True and values["front"][0]["settings"].keys() == make_space().domains.keys()
    shutil.rmtree(load_run(again.runs[0]).path)
    assert again.runs[0] not in load_front("s").runs  # it may be on another machine


def test_every_step_is_told(done: tuple[Path, SearchFront, list[SearchStep]]) -> None:
    _, front, steps = done
    assert [(s.what, s.trial, s.epoch) for s in steps[:3]] == [("epoch", 0, 1), ("epoch", 0, 2), ("finished", 0, 2)]
    assert [s.trials for s in steps if s.what == "finished"] == [1, 2, 3]
    assert steps[-1].hypervolume == front.hypervolume
    best = zip(front.table["accuracy"], front.table["flops_fraction"], strict=True)
    assert steps[-1].front == tuple(best)


def test_going_on_adds_trials_and_a_better_epoch_replaces_a_run(finished: SearchFront, runs: Path) -> None:
    more = run_search("s", resume=True, trials=4, device="cpu", seed=0)
    assert more.trials["finished"] == 4 and more.hypervolume >= finished.hypervolume
    assert {path.name for path in runs.glob("s-*")} == set(more.table["run"])


# -- stopping --


def test_a_trial_that_cannot_extend_the_front_is_stopped(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    first_alone = replace(SAMPLERS["random"], can_extend=lambda now, others, goal: now.trial == 0)
    monkeypatch.setitem(SAMPLERS, "first alone", first_alone)
    steps: list[SearchStep] = []
    front = run_search("p", make_space(), trials=2, device="cpu", sampler="first alone", stopping=True,
                       progress=steps.append)  # fmt: skip
    assert front.trials["finished"] == 1 and front.trials["stopped"] == 1
    assert [(s.what, s.epoch) for s in steps if s.trial == 1] == [("epoch", 1), ("stopped", 1)]
    assert {p[:2] for p in points(front)} == {(0, 1), (0, 2), (1, 1)}  # what it did counts
    assert not (runs / "p-001").exists()
    assert run_search("p", resume=True, trials=3, device="cpu").trials["finished"] == 2  # off


def test_where_time_counts_the_front_has_quick_epochs(runs: Path) -> None:
    values = make_space().to_dict() | {"goal": {"max_flops": 2.0, "max_seconds": 500.0}}
    front = run_search("t", SearchSpace.from_dict(values), trials=1, device="cpu", seed=0)
    first = front.table[front.table["epoch"] == 1]
    assert len(first) == len(front.epochs["accuracy"][0])  # nothing is quicker than the first epoch
    assert front.to_dict()["reference"]["seconds"] == 500
    assert (first["seconds"] < front.epochs["seconds"][1]).all()


# -- failures --


@pytest.mark.parametrize(
    ("error", "state", "raised"),
    [
        (torch.OutOfMemoryError("too large"), "failed", "the last: too large"),
        (MemoryError(), "failed", "the last: MemoryError"),
        (RuntimeError("shapes"), "waiting", "shapes"),
        (FileNotFoundError("no data"), "waiting", "no data"),
        (FileExistsError("the run exists"), "failed", "the run exists"),
    ],
)
def test_what_happens_to_a_trial_whose_training_raises(
    error: Exception, state: str, raised: str, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    def train_epochs(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(search_run, "FAILURES", 1)
    monkeypatch.setattr(train_module, "train_epochs", train_epochs)
    with pytest.raises((RuntimeError, OSError), match=raised):
        run_search("x", make_space(), trials=1, device="cpu")
    counts = load_front("x").trials
    assert counts[state] == sum(counts.values()) == 1
    if isinstance(error, RuntimeError) and state == "waiting":  # a worker that crashes of it again is its fault
        with pytest.raises(RuntimeError, match="the last: shapes"):
            run_search("x", resume=True, trials=1, device="cpu")
        assert load_front("x").trials["failed"] == 1


def test_images_that_are_not_there_are_no_fault_of_a_trial(runs: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        run_search("x", make_space(**{"data.name": "nowhere"}), trials=1, device="cpu")
    assert not any(load_front("x").trials.values())


@pytest.mark.parametrize(("error", "kept"), [(ValueError("changed images"), True), (FloatingPointError("nan"), False)])
def test_what_refuses_to_go_on_loses_no_epoch(
    error: Exception, kept: bool, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    def train_epochs(config: Any, name: str, **how: Any) -> Any:
        (runs / name).mkdir(parents=True)
        (runs / name / "checkpoint.pt").touch()
        (runs / name / MARK).write_text(how["files"][MARK])
        raise error

    monkeypatch.setattr(search_run, "FAILURES", 1)
    monkeypatch.setattr(train_module, "train_epochs", train_epochs)
    with pytest.raises(RuntimeError, match=str(error)):
        run_search("x", make_space(), trials=1, device="cpu")
    assert (runs / "x-000" / "checkpoint.pt").is_file() is kept


def test_a_setting_that_cannot_be_trained_is_left_out_until_there_are_too_many(runs: Path) -> None:
    space = SearchSpace.from_dict(make_space().to_dict() | {"space": {"predictor": ["moment"]}})
    steps: list[SearchStep] = []
    with pytest.raises(RuntimeError, match="5 trials in a row could not be trained; the last: .*exit 1"):
        run_search("f", space, trials=3, device="cpu", progress=steps.append)
    assert [s.what for s in steps] == ["failed"] * 5 and "exit 1" in steps[0].note
    assert load_front("f").trials["failed"] == 5 and load_front("f").table.empty


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a search needs an end"),
        ({"trials": 0}, "trials=0 must be above 0"),
        ({"minutes": -1}, "minutes=-1 must be above 0"),
        ({"minutes": float("inf")}, "minutes=inf must be above 0, and finite"),
        ({"trials": 1, "resume": True}, "there is no search yet: no file .*searches.db"),
        ({"trials": 1, "sampler": "tp"}, "unknown sampler 'tp'. Did you mean 'tpe'"),
        ({"trials": 1, "study": "../x"}, "study name '../x' must be"),
        ({"trials": 1, "storage": "nonsense"}, "storage 'nonsense' cannot be opened"),
    ],
)
def test_bad_wishes_are_named(arguments: dict[str, Any], words: str, runs: Path) -> None:
    with pytest.raises(ValueError, match=words):
        run_search(**{"study": "x", "space": make_space()} | arguments)
    assert not list(runs.glob("x*"))
    assert not is_begun("x", None)


def interrupt_at(trial: int, epoch: int) -> Any:
    def progress(step: SearchStep) -> None:
        if (step.what, step.trial, step.epoch) == ("epoch", trial, epoch):
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_leaves_a_study_that_goes_on_with_the_same_trial(
    done: tuple[Path, SearchFront, list[SearchStep]], runs: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search("c", make_space(), trials=3, device="cpu", seed=0, progress=interrupt_at(1, 1))
    before = load_front("c")
    assert before.trials["finished"] == 1 and before.trials["waiting"] == 1
    assert (runs / "c-001" / "checkpoint.pt").is_file() and len(before.epochs) == 3
    steps: list[SearchStep] = []
    after = run_search("c", resume=True, trials=3, device="cpu", seed=0, progress=steps.append)
    assert [(s.what, s.trial, s.epoch) for s in steps][:2] == [("epoch", 1, 2), ("finished", 1, 2)]
    assert after.trials["finished"] == 3 and after.trials["waiting"] == 0 and not (runs / "c-001").exists()
    third = max(after.epochs["trial"])  # the second one's retry took its number
    assert [(min(p[0], 2), *p[1:]) for p in points(after)] == points(done[1]) and third == 3


def test_a_second_ctrl_c_loses_no_trial(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(study: optuna.Study, attempt: int, *, lost: bool) -> None:
        raise KeyboardInterrupt  # between the trial's failure and its return to the queue; a kill leaves the same

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_run, "give_back", second)
        run_search("d", make_space(), trials=1, device="cpu", seed=0, progress=interrupt_at(0, 1))
    assert load_front("d").trials["failed"] == 1
    steps: list[SearchStep] = []
    after = run_search("d", resume=True, trials=1, device="cpu", seed=0, progress=steps.append)
    assert [(s.what, s.trial, s.epoch) for s in steps] == [("epoch", 0, 2), ("finished", 0, 2)]
    assert after.trials["finished"] == 1 and after.trials["failed"] == 0


def test_a_run_of_the_users_is_left_after_ctrl_c(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "u-000").mkdir(parents=True)
    (runs / "u-000" / "config.json").write_text(make_space().base.to_json())
    (runs / "u-000" / "notes.txt").write_text("mine")

    def pressed(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, FileExistsError)):
        patch.setattr("dmpo_explore.training.train_data.check_data", pressed)
        run_search("u", make_space(), trials=1, device="cpu", seed=0)
    with suppress(FileExistsError):
        run_search("u", resume=True, trials=1, device="cpu", seed=0)
    assert (runs / "u-000" / "notes.txt").read_text() == "mine"


def test_a_trial_does_not_take_a_run_that_has_its_name_in_this_root(runs: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search("f", make_space(), trials=1, device="cpu", seed=0, progress=interrupt_at(0, 1))
    (runs / "f-000" / MARK).unlink()  # as of `train --name f-000`, or of an earlier version
    for _ in range(2):
        with pytest.raises(OSError, match="f-000 has no mark of search 'f'.*: rename or remove it"):
            run_search("f", resume=True, trials=1, device="cpu", seed=0)
    assert (runs / "f-000" / "checkpoint.pt").is_file() and load_front("f").trials["waiting"] == 1


def test_when_time_is_up_the_trial_waits(runs: Path) -> None:
    front = run_search("m", make_space(), minutes=1e-4, device="cpu", seed=0)
    assert front.trials["waiting"] == 1 and len(front.epochs) == 1 and front.runs
    assert run_search("m", resume=True, trials=1, device="cpu").trials["finished"] == 1


def test_a_trial_that_was_given_away_is_left_and_found_again(runs: Path) -> None:
    steps: list[SearchStep] = []

    def progress(step: SearchStep) -> None:
        steps.append(step)
        if len(steps) == 1:  # what another worker does with a trial whose worker is silent
            study = load_study("g", None)
            study.tell(0, state=State.FAIL)
            give_back(study, 0)

    front = run_search("g", make_space(), trials=1, device="cpu", seed=0, progress=progress)
    assert [(s.what, s.trial, s.epoch) for s in steps] == [("epoch", 0, 1), ("epoch", 0, 2), ("finished", 0, 2)]
    assert front.trials["finished"] == 1 and front.trials["waiting"] == front.trials["failed"] == 0


def test_ctrl_c_is_heard_though_the_trial_was_given_away(runs: Path) -> None:
    def progress(step: SearchStep) -> None:
        load_study("g", None).tell(0, state=State.FAIL)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search("g", make_space(), trials=1, device="cpu", seed=0, progress=progress)


def test_another_machine_begins_at_the_first_epoch_and_says_so(runs: Path) -> None:
    space = make_space(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run_search("o", space, trials=1, device="cpu", seed=0, progress=interrupt_at(0, 2))
    shutil.rmtree(runs / "o-000")  # the storage is shared, the folder is not
    steps: list[SearchStep] = []
    front = run_search("o", resume=True, trials=1, device="cpu", seed=0, progress=steps.append)
    assert [s.epoch for s in steps] == [1, 2, 3, 3] and len(front.epochs) == 3


FIRST = """
import time
from search_settings import PATIENCE, make_space
from dmpo_explore.search.search_run import run_search

def say(step):
    print(step.what, step.trial, step.epoch, flush=True)
    if (step.what, step.trial, step.epoch) == ("epoch", 1, 2):
        time.sleep(600)  # alive, but slow

run_search("k", make_space(epochs=4), trials=3, device="cpu", patience=PATIENCE, progress=say)
"""


@pytest.mark.timeout(240)
def test_two_workers_share_a_study_and_a_killed_one_loses_nothing(runs: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    before: list[SearchFront] = []

    def progress(step: SearchStep) -> None:
        told.append((step.what, step.trial, step.epoch))
        if told == [("epoch", 2, 1)]:
            assert first.is_alive()
            before.append(load_front("k"))
            first.kill()
            time.sleep(PATIENCE + 2)  # the database counts whole seconds

    program = start(FIRST, tmp_path)
    first = program.process
    try:
        while "epoch 1 2\n" not in program.said() and first.is_alive():
            time.sleep(0.05)
        said = program.said().splitlines()
        assert "finished 0 4" in said and "epoch 1 2" in said, said
        after = run_search("k", resume=True, trials=3, device="cpu", patience=PATIENCE, progress=progress)
    finally:
        first.kill()

    assert before[0].trials["finished"] == 1 and before[0].trials["running"] == 2
    assert told == [("epoch", 2, n) for n in (1, 2, 3, 4)] + [("finished", 2, 4)] + [
        ("epoch", 1, 3), ("epoch", 1, 4), ("finished", 1, 4)]  # on behind the last finished epoch  # fmt: skip
    assert after.trials["finished"] == 3 and after.trials["running"] == after.trials["waiting"] == 0
    assert not after.epochs.duplicated(["trial", "epoch"]).any() and len(after.epochs) == 3 * 4
    kept = set(zip(after.epochs["trial"], after.epochs["epoch"], strict=True))
    assert set(zip(before[0].epochs["trial"], before[0].epochs["epoch"], strict=True)) <= kept
    assert np.isclose(after.epochs["hypervolume"].max(), after.hypervolume)
    assert set(after.runs) == set(after.table["run"]) and not list(runs.rglob("checkpoint.pt"))

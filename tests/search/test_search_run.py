"""Whole searches, tiny: the front and its runs, who is stopped, which trials fail, bad arguments."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from search_settings import make_space, points

from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.cli.doctor import run_facts
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.search import search_run as checkpoints
from dmpo_explore.search import search_run as run_module
from dmpo_explore.search.samplers import SAMPLERS
from dmpo_explore.search.search_run import SearchStep, run_search
from dmpo_explore.search.space import SearchSpace
from dmpo_explore.search.study import SearchFront, load_front
from dmpo_explore.training import train as train_module

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.usefixtures("runs"), pytest.mark.slow]


@pytest.fixture
def finished(done: tuple[Path, SearchFront, list[SearchStep]], runs: Path) -> SearchFront:
    """That search in a runs root of its own, to spoil."""
    shutil.copytree(done[0], runs)
    return done[1]


# -- the front --


def test_the_front_is_over_all_epochs_of_all_trials(finished: SearchFront) -> None:
    every = points(finished)
    assert {(trial, epoch) for trial, epoch, _, _ in every} == {(t, e) for t in range(3) for e in (1, 2)}
    beaten = [any(a >= accuracy and f <= flops and (a > accuracy or f < flops) for _, _, a, f in every)
              for _, _, accuracy, flops in every]  # fmt: skip
    best = {p[2:] for p, b in zip(every, beaten, strict=True) if not b and p[3] <= 2}
    table = finished.table
    assert set(zip(table["accuracy"], table["flops_fraction"], strict=True)) == best
    assert table["flops_fraction"].is_monotonic_increasing and table["accuracy"].is_monotonic_increasing
    volume = finished.epochs["hypervolume"]
    assert volume.diff().min() > -1e-9 and volume.iloc[-1] == pytest.approx(finished.hypervolume)
    assert finished.trials == {"finished": 3, "stopped": 0, "running": 0, "waiting": 0, "failed": 0}


@pytest.mark.slow
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


@pytest.mark.slow
def test_going_on_adds_trials_and_a_better_epoch_replaces_a_run(finished: SearchFront, runs: Path) -> None:
    mark = json.loads((runs / finished.runs[0] / checkpoints.MARK).read_text()) | {"epoch": 9}
    for name, splits in (("s-000-e9", ["val"]), ("s-001-e9", ["val", "test"]), ("s-002-e9", ["val"])):
        shutil.copytree(runs / finished.runs[0], runs / name)
        if "test" in splits:
            shutil.copytree(runs / name / "records" / "val", runs / name / "records" / "test")
        study = "other" if name == "s-002-e9" else "s"
        (runs / name / checkpoints.MARK).write_text(json.dumps(mark | {"study": study}))
    more = run_search("s", resume=True, trials=4, device="cpu", seed=0)
    assert more.trials["finished"] == 4 and more.hypervolume >= finished.hypervolume
    kept = {path.name for path in runs.glob("s-*")}
    assert kept == set(more.table["run"]) | {"s-001-e9", "s-002-e9"}  # recorded by hand; another study's


# -- stopping --


@pytest.mark.slow
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

    monkeypatch.setattr(run_module, "FAILURES", 1)
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
        (runs / name / checkpoints.MARK).write_text(how["files"][checkpoints.MARK])
        raise error

    monkeypatch.setattr(run_module, "FAILURES", 1)
    monkeypatch.setattr(train_module, "train_epochs", train_epochs)
    with pytest.raises(RuntimeError, match=str(error)):
        run_search("x", make_space(), trials=1, device="cpu")
    assert (runs / "x-000" / "checkpoint.pt").is_file() is kept


@pytest.mark.slow
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

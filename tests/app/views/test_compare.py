"""The page Compare without a browser: its numbers are the library's, whatever is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from compare_page import code, expected, shown, start, texts, tiles
from dmpo_explore_app.components import disagreement_tiles
from dmpo_explore_app.services import comparison
from dmpo_explore_app.state import choices, panels
from explore_page import checked
from programs import answered, printed

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs


@pytest.mark.parametrize("policy", list(choices.rules()))
def test_the_table_is_what_evaluate_says(runs: Path, policy: str) -> None:
    app = start(runs="four,six,one", against="six", compute="62", policy=policy)
    rows = evaluate_runs(["four", "six"], policy, targets=dx.Target.flops(0.62), against="six")
    assert shown(app)[:2] == expected(rows)
    assert not app.warning and not app.error
    assert answered(code(app, "sh").splitlines()[0]) == rows  # the command that the page offers
    assert printed(code(app, "python")).splitlines()[0].split()[1] == str(rows[1]["accuracy"])


def test_the_program_gives_the_table(runs: Path) -> None:
    app = start(runs="four,six,one", against="six", compute="50")
    lines = [line.split() for line in printed(code(app, "python")).splitlines()]
    said = {}
    for name, *numbers in lines:
        accuracy, flops, difference, low, high = map(float, numbers)
        text = "–" if name == "six" else comparison.interval(difference, low, high)
        said[name] = [name, f"{accuracy:.2%}", f"{flops:.1%}", text]
    assert [said[row[0]] for row in shown(app)] == shown(app) and len(said) == 3


def test_opens_with_runs_on_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = start()
    assert app.session_state["runs"] == ["demo", "demo-naive", "demo-single"]
    held_out = dx.load_run("demo").record("calibration")  # what demo needs there to be within a point of its best exit
    share = dx.apply(dx.fit_policy(held_out, near_best=0.01), held_out).summary()["flops_fraction"]
    budget = dx.Target.flops(math.ceil(100 * share) / 100)
    rows = evaluate_runs(["demo", "demo-naive"], targets=budget, against="demo-naive")
    assert app.session_state["compute"] == 100 * budget.value and 18 < 100 * budget.value < 25
    assert shown(app)[:2] == expected(rows)
    assert tiles(app).count("<img ") == 24
    assert len(app.get("plotly_chart")) == 3
    assert dict(app.query_params) == {}  # bare until something is changed
    checked(app.slider(key="compute").set_value(60).run())
    assert {key: app.query_params[key] for key in ("compute", "runs")} == {
        "compute": "60",
        "runs": "demo,demo-naive,demo-single",
    }


@pytest.mark.parametrize("kind", ["only a", "only b", "both wrong"])
def test_images_on_which_they_disagree(runs: Path, kind: str) -> None:
    app = start(runs="four,six", against="six", compute="50", show=kind)
    answers = []
    for name in ("four", "six"):
        record = dx.load_run(name).record("test")
        exits = dx.fit_policy(dx.load_run(name).record("val"), flops=0.5).exits(record)
        answers.append(record.prediction[np.arange(record.n_images), exits])
    labels = dx.load_run("four").record("test").labels
    a, b = (said == labels for said in answers)
    wanted = {"only a": a & ~b, "only b": ~a & b, "both wrong": ~a & ~b & (answers[0] != answers[1])}[kind]
    options = {option.replace("\\", "") for option in app.button_group(key="show").options}
    assert any(option.endswith(f" · {int(wanted.sum()):,}") for option in options)
    marks = {"only a": ("A ✓", "B ✗"), "only b": ("A ✗", "B ✓"), "both wrong": ("A ✗", "B ✗")}[kind]
    assert tiles(app).count("<li ") == 24 == tiles(app).count(marks[0]) == tiles(app).count(marks[1])
    before = tiles(app)
    checked(app.button(key="compare others").click().run())
    assert tiles(app) != before and tiles(app).count("<li ") == 24


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"runs": "nope,four,six"}, "There is no run 'nope' here"),
        ({"runs": "../four,six,four"}, "There is no run '../four' here"),
        ({"runs": "/etc,six,four"}, "There is no run '/etc' here"),
        ({"runs": "<script>alert(1)</script>"}, "There is no run '<script>alert(1)</script>' here"),
        ({"runs": "four,six", "against": "one"}, "There is no run to compare with among these, 'one' here"),
        ({"runs": "four,six", "compute": "lots"}, "compute 'lots' must be a whole number from"),
        ({"runs": "four,six", "compute": "1e9"}, "compute '1e9' must be"),
        ({"runs": "four,six", "compute": "5"}, "compute '5' must be"),
        ({"runs": "four,six", "policy": "mood"}, "There is no policy 'mood' here"),
        ({"runs": "four,six", "split": "train"}, "There is no split 'train' here"),
        ({"runs": "four,six", "show": "all"}, "There is no filter 'all' here"),
        ({"runs": "four,demo"}, "demo was recorded on other test images than four and is left out"),
        ({"runs": "four,hostile,six"}, "hostile was recorded on other test images than four and is left out"),
    ],
)
def test_a_wrong_link_is_said_and_the_rest_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert said in texts(app)
    if address["runs"] != "four,demo":
        assert len(shown(app)) >= 2 and len(app.get("plotly_chart")) == 3


def test_on_calibration_the_reader_is_warned(runs: Path) -> None:
    app = start(runs="demo,demo-naive", split="calibration", compute="50")
    assert "on which the thresholds were fitted too" in texts(app)


def test_the_study_is_read_when_its_section_is_opened(runs: Path) -> None:
    closed = start(runs="four,six")
    app = start(panels.STUDY, runs="four,six")
    assert [tab.label for tab in app.tabs][:3] == ["caltech", "fashion", "fashion-cnn"]
    specs = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert len(specs) == len(closed.get("plotly_chart")) + len(app.tabs)
    claims = dx.course.study_table("claims")
    assert all(any(question in spec for spec in specs) for question in claims["question"])


# -- the arithmetic --


def sides(*names: str, budget: float = 0.5) -> list[comparison.Side]:
    return [comparison.side(dx.load_run(name), "test", "confidence", comparison.Budget(budget)) for name in names]


def test_class_accuracy_is_sorted_by_difference(runs: Path) -> None:
    both = sides("four", "six")
    frame = comparison.class_accuracy(both)
    labels, names = both[0].record.labels, both[0].record.meta.class_names
    for name, row in frame.iterrows():
        mine = labels == names.index(str(name))
        assert (
            row["four"] == both[0].outcome.correct[mine].mean() and row["six"] == both[1].outcome.correct[mine].mean()
        )
    spread = (frame.max(axis=1) - frame.min(axis=1)).to_numpy()
    assert len(frame) == 10 and (np.diff(spread) <= 0).all()


def test_the_difference_at_a_budget_is_the_tables(runs: Path) -> None:
    both = sides("four", "six")
    table = comparison.difference_table(
        both[0], both[1], "test", "confidence", [comparison.Budget(b) for b in (0.5, 0.9)]
    )
    row = comparison.table(both, both[1]).iloc[0]
    assert table.iloc[0][["difference", "low", "high"]].tolist() == row[["difference", "low", "high"]].tolist()


def test_texts_in_tiles_are_text(runs: Path) -> None:
    (side,) = sides("hostile")
    named = (side.name, side.outcome)
    html = disagreement_tiles.tiles(named, named, range(60), None)
    assert "<img" not in html and "&lt;img src=x" in html


def test_a_side_is_fitted_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dx.load_run("four")
    first = comparison.side(run, "test", "confidence", comparison.Budget(0.5))
    monkeypatch.setattr("dmpo_explore.fit_policy", None)
    again = comparison.side(run, "test", "confidence", comparison.Budget(0.5))
    assert again.point.policy is first.point.policy and again.outcome is first.outcome

"""Trade-off, exit histogram, exits by class and confidence: traces hold the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

from dmpo_explore.analysis.metrics import trade_off
from dmpo_explore.figures.style import MODEL_COLOURS
from dmpo_explore.figures.trade_off import class_exit_figure, exit_histogram_figure, trade_off_figure

LABELS = ("exit 1", "exit 2", "exit 3")


def test_trade_off_draws_curves_diamonds_and_the_point() -> None:
    tables = {"demo": trade_off(make_record(60, 3, 4)), "naive": trade_off(make_record(60, 3, 4, seed=1))}
    figure = trade_off_figure(tables, {"flops_fraction": 0.4, "accuracy": 0.5, "more": 1}, {"single": (0.9, 0.6)})
    assert [trace.name for trace in figure.data] == ["demo", "naive", "single", "operating point"]
    assert figure.data[0].mode == "lines+markers"  # so that clicks arrive
    assert list(figure.data[1].x) == list(tables["naive"]["flops_fraction"])
    assert list(figure.data[1].y) == list(tables["naive"]["accuracy"])
    assert (figure.data[2].marker.symbol, list(figure.data[2].x), list(figure.data[2].y)) == ("diamond", [0.9], [0.6])
    assert (list(figure.data[3].x), list(figure.data[3].y)) == ([0.4], [0.5])
    assert [figure.data[i].line.color for i in (0, 1)] == list(MODEL_COLOURS[:2])
    assert figure.data[0].line.dash != figure.data[1].line.dash  # colour is never alone
    assert len(trade_off_figure({}).data) == 0


def test_histogram_counts() -> None:
    figure = exit_histogram_figure([0, 0, 2, 2, 2], [True, False, True, True, False], LABELS)
    assert {trace.name: list(trace.y) for trace in figure.data} == {"correct": [1, 0, 2], "incorrect": [1, 0, 1]}
    assert list(figure.data[0].x) == list(LABELS)
    assert figure.layout.barmode == "stack"
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape


def test_the_heat_map_of_classes_and_exits_shows_shares() -> None:
    figure = class_exit_figure([0, 0, 0, 0, 1], [0, 0, 0, 2, 1], ["a", "b", "c"], ["1", "2", "3"])
    (heat,) = figure.data
    assert np.array_equal(heat.z, [[0.75, 0, 0.25], [0, 1, 0], [0, 0, 0]])
    assert np.array_equal(heat.customdata, [[3, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert tuple(heat.y) == ("a", "b", "c") and figure.layout.yaxis.autorange == "reversed"
    assert heat.texttemplate == "%{z:.0%}" and not figure.layout.annotations  # hundreds of them would take seconds
    assert all(colour.startswith("#") for _, colour in heat.colorscale)  # opaque, so that texts can be read on any page


def test_the_bound_is_level_from_its_best_point_on() -> None:
    bound = pd.DataFrame({"flops_fraction": [0.2, 0.5, 1.0], "accuracy": [0.8, 0.95, 0.9]})
    curve = bound.assign(threshold=[0.1, 0.5, 1.0], mean_exit=[1.0, 2.0, 3.0])
    figure = trade_off_figure({"mine": curve}, bound=bound)
    (drawn,) = (trace for trace in figure.data if trace.name == "oracle of mine")
    assert tuple(drawn.y) == (0.8, 0.95, 0.95) and tuple(drawn.x) == (0.2, 0.5, 1.0)


def test_of_many_classes_those_at_both_ends_are_drawn() -> None:
    rng = np.random.default_rng(0)
    labels, exits = rng.integers(100, size=5000), rng.integers(3, size=5000)
    names = [f"class {c}" for c in range(101)]  # the last has no image
    figure = class_exit_figure(labels, exits, names, LABELS)
    means = np.array([exits[labels == c].mean() for c in range(100)])
    order = np.argsort(means, kind="stable")
    assert list(figure.data[0].y) == [names[c] for c in (*order[:12], *order[-12:])]
    assert "24 of 101 classes" in figure.layout.title.text
    assert figure.data[0].z.sum(axis=1) == pytest.approx(1)
    few = class_exit_figure([0, 1], [0, 1], names, LABELS)
    assert few.layout.title.text == "2 of 101 classes: those that have images"


def test_names_of_classes_are_short_told_apart_and_text() -> None:
    figure = class_exit_figure([0, 1, 2], [0, 0, 0], ["same", "same", "<b>" + "x" * 90], ["exit 1"])
    assert list(figure.data[0].y) == ["same (class 1)", "same (class 2)", "&lt;b&gt;" + "x" * 28 + "…"]

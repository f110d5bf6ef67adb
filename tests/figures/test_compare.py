"""Figures that compare models and places: traces hold the tables' numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import trade_off
from dmpo_explore.figures.compare import (
    accuracy_difference_figure,
    class_accuracy_figure,
    in_gflops,
    mark_limits,
    mark_points,
)
from dmpo_explore.figures.style import MODEL_COLOURS
from dmpo_explore.figures.trade_off import trade_off_figure

ACCURACY = pd.DataFrame({"a": [0.5, 0.9], "b": [0.8, 0.7]}, index=["cat", "<img src=x>"])


def by_name(figure: go.Figure, name: str) -> go.Scatter:
    """The trace with that name and marks."""
    (trace,) = [t for t in figure.data if t.name == name and "markers" in t.mode]
    return trace


def test_each_class_has_a_mark_of_each_model_and_a_line_between() -> None:
    figure = class_accuracy_figure(ACCURACY, [0, 2])
    assert list(by_name(figure, "a").x) == [0.5, 0.9] and list(by_name(figure, "b").x) == [0.8, 0.7]
    assert [by_name(figure, name).marker.color for name in "ab"] == [MODEL_COLOURS[0], MODEL_COLOURS[2]]
    assert by_name(figure, "a").marker.symbol != by_name(figure, "b").marker.symbol
    lines = [t for t in figure.data if t.mode == "lines"]
    assert [list(line.x) for line in lines] == [[0.5, 0.8], [0.7, 0.9]]
    assert figure.layout.yaxis.range == (1.5, -0.5)  # the first class on top
    assert list(figure.layout.yaxis.ticktext) == ["cat", "&lt;img src=x&gt;"]


def test_equal_marks_do_not_cover_each_other() -> None:
    figure = class_accuracy_figure(pd.DataFrame({name: [0.5, 0.5] for name in "abc"}, index=["cat", "dog"]), [0, 1, 2])
    rows = [by_name(figure, name).y for name in "abc"]
    assert [row.round().tolist() for row in rows] == [[0, 1]] * 3 and len({row[0] for row in rows}) == 3


def test_differences_are_points_with_their_band() -> None:
    table = pd.DataFrame({"budget": [0.3, 0.6], "difference": [0.03, -0.01], "low": [0.02, -0.02], "high": [0.04, 0.0]})
    figure = accuracy_difference_figure({"a": table}, [1], "b")
    trace = by_name(figure, "a")
    assert list(trace.x) == [0.3, 0.6] and list(trace.y) == pytest.approx([3.0, -1.0])
    assert trace.customdata.tolist() == [pytest.approx([2.0, 4.0]), pytest.approx([-2.0, 0.0])]
    (band,) = [t for t in figure.data if t.fill == "toself"]
    assert list(band.x) == [0.3, 0.6, 0.6, 0.3] and list(band.y) == pytest.approx([4.0, 0.0, -2.0, 2.0])
    assert band.fillcolor.startswith("rgba(213,94,0,") and trace.line.color == MODEL_COLOURS[1]
    assert "points above b" in figure.layout.yaxis.title.text
    assert figure.layout.shapes[0].y0 == 0


def test_points_lie_where_the_models_stand() -> None:
    figure = mark_points(trade_off_figure({"a": trade_off(make_record())}), {"a": (0.4, 0.7)}, [0])
    point = figure.data[-1]
    assert (point.x, point.y, point.marker.color) == ((0.4,), (0.7,), MODEL_COLOURS[0])
    assert not point.showlegend


def test_limits_are_a_grey_part_and_a_line() -> None:
    figure = in_gflops(trade_off_figure({"a": trade_off(make_record())}), {"a": 20.0}, "ms")
    assert "ms" in figure.layout.xaxis.title.text and "%{x:.3g} ms" in figure.data[0].hovertemplate
    grey, budget, least = mark_limits(figure, 8.0, 0.75, "points lost: 1").layout.shapes
    assert grey.x0 == budget.x0 == budget.x1 == 8.0 and grey.x1 > 20 * max(trade_off(make_record())["flops_fraction"])
    assert least.y0 == least.y1 == 0.75 and figure.layout.annotations[-1].text == "points lost: 1"
    assert len(mark_limits(in_gflops(trade_off_figure({}), {}), 1.0).layout.shapes) == 2


def test_fractions_of_two_backbones_become_gflops() -> None:
    lines = {"vit": trade_off(make_record(40, 3, 4), "confidence")}
    before = trade_off_figure(lines, singles={"cnn": (1.0, 0.9)})
    shares = [list(trace.x) for trace in before.data]
    figure = in_gflops(before, {"vit": 2.0, "cnn": 0.5})
    assert list(figure.data[0].x) == [2 * x for x in shares[0]] and list(figure.data[1].x) == [0.5]
    assert "GFLOPs" in figure.layout.xaxis.title.text and "%{x:.3g} GFLOPs" in figure.data[0].hovertemplate
    table = pd.DataFrame({"budget": [0.05], "difference": [0.02], "low": [0.01], "high": [0.03]})
    figure = accuracy_difference_figure({"a": table}, [0], "b", gflops=True)
    assert figure.layout.xaxis.type == "log" and "GFLOPs" in figure.layout.xaxis.title.text
    assert "%{x:.3g} GFLOPs" in figure.data[-1].hovertemplate


def test_exits_with_intervals_then_expected_and_used() -> None:
    places = [dx.analysis.HeldOut(make_record(300, 3, 4, seed), make_record(300, 3, 4, seed + 1)) for seed in (1, 3)]
    found = dx.analysis.transfer(*places, [dx.Target.flops(0.6)])
    here, there, *points = dx.figures.transfer_figure(found, "my shop", "yours <b>").data
    for trace, name in ((here, "home"), (there, "away")):
        np.testing.assert_allclose(trace.y, found.exits[name])
        np.testing.assert_allclose(trace.y + trace.error_y.array, found.exits[f"{name}_high"])
    rows = found.thresholds
    assert [point.x[0] for point in points] == [rows["fitted_flops"].iloc[0], *rows["flops_fraction"]]
    assert [point.name for point in points][:3] == ["expected", "used in my shop", "used in yours &lt;b&gt;"]

"""Figures of live statistics: traces hold the points' numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dmpo_explore.figures.live import exit_shares_figure, latency_figure, speed_figure
from dmpo_explore.figures.style import MODEL_COLOURS, exit_colours
from dmpo_explore.inference.live import Latency, Point

TIMELINE = [Point(10, (0.5, 0.5, 0.0), 100.0, 40.0), Point(20, (0.6, 0.38, 0.02), 90.0, 45.0)]


def test_shares_are_stacked_and_named_at_their_end() -> None:
    figure = exit_shares_figure(TIMELINE)
    assert [trace.name for trace in figure.data] == ["exit 1", "exit 2", "exit 3"]
    assert [list(trace.y) for trace in figure.data] == [[0.5, 0.6], [0.5, 0.38], [0.0, 0.02]]
    assert {trace.stackgroup for trace in figure.data} == {"exits"}
    assert [trace.fillcolor for trace in figure.data] == exit_colours(3)
    assert all(list(trace.x) == [10, 20] for trace in figure.data)
    axis = figure.layout.yaxis
    assert list(axis.ticktext) == ["exit 1 · 60%", "exit 2 · 38%"]  # the third band is too thin
    assert list(axis.tickvals) == pytest.approx([0.3, 0.79])


def test_both_arms_have_a_line_from_zero() -> None:
    early, full = speed_figure(TIMELINE).data
    assert (list(early.y), list(full.y)) == ([100.0, 90.0], [40.0, 45.0])
    assert (early.line.color, full.line.color) == MODEL_COLOURS[:2]
    assert early.line.dash != full.line.dash and early.marker.symbol != full.marker.symbol
    assert speed_figure(TIMELINE).layout.yaxis.rangemode == "tozero"


def test_moves_within_the_timeline_are_marked_and_named_where_there_is_room() -> None:
    timeline = [Point(10 * i, (1.0,), 1.0, 1.0) for i in range(1, 11)]  # 10 to 100
    moves = [(0, "first"), (40, "old"), (45, "near"), (50, "new"), (100, "not yet")]
    figure = exit_shares_figure(timeline, moves)
    assert [shape.x0 for shape in figure.layout.shapes] == [50, 45, 40]
    assert [note.text for note in figure.layout.annotations if note.text] == ["new"]
    figure = speed_figure(timeline, moves)
    assert len(figure.layout.shapes) == 3 and not [note for note in figure.layout.annotations if note.text]


def test_a_single_call_is_seen_and_none_is_empty() -> None:
    assert {trace.mode for trace in exit_shares_figure(TIMELINE[:1]).data} == {"markers"}
    assert not exit_shares_figure([]).data
    assert [len(trace.x) for trace in speed_figure([], [(0, "first")]).data] == [0, 0]


def test_names_of_bands_do_not_meet_and_the_axis_begins_at_zero() -> None:
    """Of bands of 5 % each the names lay on each other, and the axis of one call went from 63 to 65."""
    figure = exit_shares_figure([Point(64, (0.8, 0.05, 0.05, 0.05, 0.05), 100.0, 40.0)])
    heights = list(figure.layout.yaxis.tickvals)
    assert all(b - a >= 0.07 for a, b in pairwise(heights)) and figure.layout.yaxis.ticktext[0] == "exit 1 · 80%"
    assert list(figure.layout.xaxis.range) == [0, 64]
    assert list(speed_figure([Point(64, (1.0,), 1.0, 1.0)]).layout.xaxis.range) == [0, 64]


def test_latency_is_counted_by_exit_in_images() -> None:
    figure = latency_figure([Latency((0.010, 0.011), (30, 2)), Latency((), ()), Latency((0.040,), (8,))], full_s=0.05)
    assert [(bars.name, int(sum(bars.y))) for bars in figure.data] == [("exit 1", 32), ("exit 2", 0), ("exit 3", 8)]
    assert [bars.marker.color for bars in figure.data] == exit_colours(3)
    assert figure.layout.xaxis.range[0] == 0 and figure.layout.shapes[0].x0 == 50
    assert not latency_figure([Latency((), ())]).data

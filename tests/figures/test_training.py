"""Training history, loss schedules and the answers of the exits: traces hold the arrays' numbers."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmpo_explore.figures.style import CORRECT, GREY, INCORRECT, exit_colours, model_colour
from dmpo_explore.figures.training import (
    exit_predictions_figure,
    histories_figure,
    history_figure,
    kept_epoch,
    learning_figure,
    schedule_figure,
    second_phase,
)
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.schedules import loss_weights


def history(schedule: str, epochs: int = 6, n_exits: int = 3, ratio: float = 0.5) -> pd.DataFrame:
    rows = []
    for epoch in range(epochs):
        weights = loss_weights(schedule, epoch, epochs, n_exits, phase_ratio=ratio)
        row: dict[str, float] = {"epoch": epoch + 1, "area": -abs(epoch - 3)}
        for k in range(n_exits):
            row |= {f"lambda_{k + 1}": weights[k], f"loss_{k + 1}": 2 / (epoch + 1), f"accuracy_{k + 1}": epoch / 10}
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("schedule", "first"),
    [("switch", 4), ("mixed", 4), ("linear", 5), ("uniform", None), ("deep-only", None), ("early-only", None)],
)
def test_the_second_phase_begins_where_the_first_exit_leads(schedule: str, first: int | None) -> None:
    table = history(schedule)
    assert second_phase(table) == first
    if first:
        early = table["lambda_1"] >= table["lambda_3"]
        assert not early[table["epoch"] < first].any() and early[table["epoch"] >= first].all()
    shapes = learning_figure(table).layout.shapes
    assert sum(shape.type == "rect" for shape in shapes) == (3 if first else 0)
    assert {shape.x0 for shape in shapes if shape.type == "rect"} == ({first - 0.5} if first else set())


def test_the_switch_moves_with_its_ratio_and_a_single_exit_has_no_phases() -> None:
    assert second_phase(history("switch", 10, ratio=0.3)) == 4
    assert second_phase(history("linear", n_exits=1)) is None


def test_the_kept_epoch_is_marked_in_every_panel() -> None:
    table = history("linear")
    assert kept_epoch(table) == 4
    lines = [shape for shape in learning_figure(table).layout.shapes if shape.type == "line"]
    assert [line.x0 for line in lines] == [4, 4, 4]
    table["area"] = [0.1, 0.9, 0.9, 0.2, 0.9, 0.3]
    assert kept_epoch(table) == 2  # the first, as `fit` keeps it


def test_lines_are_the_historys() -> None:
    run = load_run("demo")
    table, figure = run.history(), learning_figure(run.history())
    assert len(figure.data) == 18
    drawn = {(trace.name, trace.xaxis): np.asarray(trace.y, float) for trace in figure.data}
    assert np.array_equal(drawn["exit 6", "x"], table["lambda_6"])
    assert np.array_equal(drawn["exit 1", "x3"], table["accuracy_1"])
    assert f"Kept: epoch {kept_epoch(table)}," in run.card()


def test_history_draws_every_exit_in_every_panel() -> None:
    table = history("uniform", 4, 3)
    figure = history_figure(table)
    assert len(figure.data) == 9
    assert [trace.name for trace in figure.data if trace.showlegend] == ["exit 1", "exit 2", "exit 3"]
    assert list(figure.data[4].y) == list(table["loss_2"])
    assert list(figure.data[0].x) == [1, 2, 3, 4]
    assert [trace.line.color for trace in figure.data[:3]] == exit_colours(3)


def test_several_histories_have_a_line_each_and_a_ring_at_the_kept_epoch() -> None:
    tables = {"three": history("linear"), "one": history("uniform", 4, 1)}
    figure = histories_figure(tables, [2, 0])
    assert [axis.title.text.split(",")[0] for axis in figure.select_yaxes()] == ["area on val", "exit 1", "last exit"]
    lines = [trace for trace in figure.data if trace.mode != "markers"]
    assert [trace.name for trace in lines] == ["three", "one", "three", "three", "one"]  # `one` has no earlier exit
    assert [trace.name for trace in lines if trace.showlegend] == ["three", "one"]
    expected = [(tables["three"], "area"), (tables["one"], "area")]
    expected += [(tables["three"], "accuracy_1"), (tables["three"], "accuracy_3"), (tables["one"], "accuracy_1")]
    for trace, (table, column) in zip(lines, expected, strict=True):
        assert list(trace.y) == list(table[column]) and list(trace.x) == list(table["epoch"])
    assert lines[0].line.color == model_colour(2) and lines[1].line.color == model_colour(0)
    rings = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(rings) == 5 and all(list(ring.x) == [4] for ring in rings)
    assert [ring.y[0] for ring in rings] == [trace.y[3] for trace in lines]


def test_runs_with_one_exit_have_no_panel_of_the_first() -> None:
    figure = histories_figure({"a": history("uniform", n_exits=1)}, [0])
    assert [axis.title.text for axis in figure.select_yaxes()] == ["area on val", "last exit, accuracy on val"]


PIXELS = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)


def test_exit_predictions_show_image_predictions_and_exit() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat", "Bag"], [0.5, 0.9, 0.7], [True, False, True], 1, 0.8)
    (bars,) = figure.data
    assert list(bars.x) == ["exit 1", "exit 2", "exit 3"] and list(bars.y) == [0.5, 0.9, 0.7]
    assert list(bars.text) == ["Bag<br>50%", "Coat<br>90%", "Bag<br>70%"]
    assert list(bars.marker.color) == [CORRECT, INCORRECT, CORRECT]
    assert list(bars.marker.opacity) == [1.0, 1.0, 0.3]  # exit 3 does not run
    assert figure.layout.annotations[0].x == "exit 2" and figure.layout.shapes[0].y0 == 0.8
    shown = Image.open(io.BytesIO(base64.b64decode(figure.layout.images[0].source.split(",")[1])))
    assert shown.size == (240, 240)
    np.testing.assert_array_equal(np.asarray(shown)[::60, ::60], PIXELS)


def test_texts_lie_flat_and_the_exit_is_marked_only_where_a_threshold_decides() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat"], [0.5, 0.9], [True, False], 1)
    assert figure.data[0].textangle == 0 and not figure.layout.annotations


def test_a_text_that_the_threshold_would_cross_stands_in_its_bar() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat", "Bag"], [0.7, 0.9, 0.75], [True] * 3, 1, 0.8)
    assert list(figure.data[0].textposition) == ["inside", "outside", "inside"]
    assert list(figure.data[0].insidetextfont.color) == ["white", "white", GREY]  # grey on the faint bar


def test_predictions_of_an_image_without_label_are_neither_correct_nor_incorrect() -> None:
    (bars,) = exit_predictions_figure(PIXELS, ["Bag", "Coat"], [0.5, 0.9], None, exit=1).data
    assert list(bars.marker.color) == [GREY, GREY] and list(bars.marker.pattern.shape) == ["", ""]


def test_a_schedule_is_a_line_per_exit_with_the_epoch_marked() -> None:
    weights = np.array([[0.0, 2.0], [0.5, 1.5], [1.0, 1.0]])
    figure = schedule_figure(weights, epoch=1)
    lines, marks = figure.data[::2], figure.data[1::2]
    for k in (0, 1):
        np.testing.assert_array_equal(lines[k].y, weights[:, k])
        assert list(lines[k].x) == [1, 2, 3]
        assert list(marks[k].y) == [None, weights[1, k], None]
    assert figure.layout.shapes[0].x0 == 2  # counted from 1
    assert not schedule_figure(weights).layout.shapes

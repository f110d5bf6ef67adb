"""Training history: lines equal the table; second phase and kept epoch are marked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dmpo_explore.figures.style import exit_colours, model_colour
from dmpo_explore.figures.training import (
    histories_figure,
    history_figure,
    kept_epoch,
    learning_figure,
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


@pytest.mark.parametrize("columns", [["epoch"], ["epoch", "area"], ["epoch", "lambda_1", "loss_1", "accuracy_1"]])
def test_another_table_is_refused(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="history"):
        learning_figure(pd.DataFrame(np.ones((2, len(columns))), columns=columns))
    with pytest.raises(ValueError, match="history"):
        learning_figure(history("linear").iloc[:0])


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

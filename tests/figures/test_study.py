"""Figures of studies, searches and seeds: every number of a table is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dmpo_explore as dx
from dmpo_explore.figures.study import (
    front_figure,
    gains_figure,
)
from dmpo_explore.figures.style import MODEL_COLOURS


def test_gains_show_mean_interval_and_every_seed() -> None:
    rows = {
        "question": ["gain of bypass", "gain of schedule", "another"],
        "points": [1.0, -0.5, 0.2],
        "low": [0.4, -0.9, 0.1],
        "high": [1.7, 0.1, 0.3],
        "seeds": ["+0.90 +1.10", "-0.50", "+0.10 +0.30"],
    }
    figure = gains_figure(pd.DataFrame(rows))
    mean, single, seeds = figure.data
    assert list(figure.layout.yaxis.categoryarray) == rows["question"][::-1]  # the first question lies on top
    assert (list(mean.y), list(mean.x)) == (["another", "gain of bypass"], [0.2, 1.0])
    assert list(mean.error_x.array) == pytest.approx([0.1, 0.7])
    assert list(mean.error_x.arrayminus) == pytest.approx([0.1, 0.6])
    assert list(zip(seeds.y, seeds.x, strict=True)) == [
        ("another", 0.1), ("another", 0.3), ("gain of bypass", 0.9), ("gain of bypass", 1.1),
    ]  # fmt: skip
    assert (list(single.y), single.name) == (["gain of schedule"], "one training, 95 % interval over images")
    over = gains_figure(pd.DataFrame(rows).head(1).assign(over="images and trainings"))
    assert over.data[0].name == "mean of the seeds, 95 % interval over images and trainings"


FRONT = pd.DataFrame(
    {"run": ["s-001-e2", "s-000-e1"], "accuracy": [0.6, 0.8], "flops_fraction": [0.2, 0.5], "threshold": [0.7, 0.9]}
)
EPOCHS = pd.DataFrame(
    {"trial": [0, 1], "epoch": [1, 2], "accuracy": [[0.7, 0.8], [0.6]], "flops_fraction": [[0.4, 0.5], [0.2]]}
)


def test_the_front_is_a_staircase_over_all_points() -> None:
    every, front = front_figure(FRONT, EPOCHS).data
    assert list(every.x) == [0.4, 0.5, 0.2] and list(every.y) == [0.7, 0.8, 0.6]
    assert every.customdata.tolist() == [[0, 1], [0, 1], [1, 2]]
    assert list(front.x) == [0.2, 0.5] and list(front.y) == [0.6, 0.8]
    assert front.line.shape == "hv" and front.customdata[0].tolist() == ["s-001-e2", 0.7]


def test_an_empty_study_has_an_empty_figure() -> None:
    every, front = front_figure(FRONT[:0], EPOCHS[:0]).data
    assert len(every.x) == len(front.x) == 0


def test_a_front_of_three_goals_is_not_joined() -> None:
    falling = pd.concat([FRONT, FRONT[:1].assign(flops_fraction=0.9)])
    assert front_figure(FRONT, EPOCHS).data[1].mode == "lines+markers"
    assert front_figure(falling, EPOCHS).data[1].mode == "markers"


def test_the_line_is_the_mean_and_the_band_reaches_from_the_lowest_to_the_highest_seed() -> None:
    seeds = np.array([[0.2, 0.9], [0.4, 0.7], [0.9, 0.8]])
    band, line = dx.figures.seeds_figure({"a": seeds}, "accuracy").data
    assert list(line.x) == ["exit 1", "exit 2"] and line.y == pytest.approx([0.5, 0.8])
    assert list(band.x) == ["exit 1", "exit 2", "exit 2", "exit 1"]
    assert band.y == pytest.approx([0.9, 0.9, 0.7, 0.2])
    assert band.legendgroup == line.legendgroup == "a" and not band.showlegend


def test_a_level_is_drawn_across() -> None:
    figure = dx.figures.seeds_figure({"a": [[0.1, 0.2, 0.3]], "level": [0.4, 0.6]}, "accuracy")
    level = figure.data[-1]
    assert level.mode == "lines" and level.y == pytest.approx([0.5] * 3) and len(level.x) == 3


def test_a_name_keeps_its_colour_in_any_order() -> None:
    for names in ("ab", "ba"):
        lines = dx.figures.seeds_figure({name: [[1.0]] for name in names}, "y", colours={"a": 4, "b": 1}).data[1::2]
        assert {line.name: line.line.color for line in lines} == {"a": MODEL_COLOURS[4], "b": MODEL_COLOURS[1]}

"""Seeds: the line is their mean, the band their extremes, and a name keeps its colour."""

from __future__ import annotations

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.figures.style import MODEL_COLOURS


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

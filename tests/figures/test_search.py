"""Figures of a search: traces hold the tables' numbers."""

from __future__ import annotations

import pandas as pd

from dmpo_explore.figures.study import front_figure

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

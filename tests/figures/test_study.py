"""Figures of an ablation study: every number of a table is drawn."""

from __future__ import annotations

import pandas as pd
import pytest

from dmpo_explore.figures.study import gains_figure


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

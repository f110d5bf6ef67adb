"""Figures of counts by class."""

from __future__ import annotations

import pytest

import dmpo_explore as dx
from dmpo_explore.figures import wall as data


def test_bars_are_the_counts_and_names_stay_literal() -> None:
    counts = {"train": [3, 0, 5], "val": [1, 1, 1]}
    long = "a name of more than thirty-two characters (class 4)"
    figure = data.class_counts_figure(counts, ["<b>cat", "dog", long])
    assert [(bars.name, bars.x.tolist()) for bars in figure.data] == [("train", [3, 0, 5]), ("val", [1, 1, 1])]
    assert list(figure.data[0].y) == ["&lt;b&gt;cat", "dog", long]  # with its number among all classes
    assert len({bars.marker.pattern.shape for bars in figure.data}) == 2 and figure.layout.barmode == "stack"
    with pytest.raises(ValueError, match="the same label"):
        dx.figures.class_counts_figure(counts, ["a", "a", "c"])

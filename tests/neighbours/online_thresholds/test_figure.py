"""The figure of thresholds along a stream."""

from __future__ import annotations

import pandas as pd
import pytest

from dmpo_explore.neighbours.online_thresholds.stream import online_figure

WAY = pd.DataFrame(
    [
        {"corruption": c, "strength": 5, "policy": p, "image": i, "threshold": 0.8 + i / 1000, "frozen": f}
        for c in ("noise", "blur")
        for p, f in (("UCB1", 0.75), ("from the bound", 0.78))
        for i in (0, -50)
    ]
)


def test_a_panel_per_corruption_and_a_line_per_policy() -> None:
    figure = online_figure(WAY)
    assert [trace.name for trace in figure.data] == ["UCB1", "from the bound", "frozen", "frozen"] * 2
    assert [trace.showlegend for trace in figure.data] == [True, True, True, False] + [False] * 4
    assert list(figure.data[0].x) == [-50, 0] and list(figure.data[0].y) == pytest.approx([0.75, 0.8])
    assert [list(trace.y) for trace in figure.data[2:4]] == [[0.75, 0.75], [0.78, 0.78]]
    assert [title.text for title in figure.layout.annotations] == ["noise", "blur"]


def test_several_strengths_and_no_row_are_refused() -> None:
    with pytest.raises(ValueError, match="one strength, not \\[\\]"):
        online_figure(WAY.iloc[:0])
    with pytest.raises(ValueError, match="one strength, not \\[4, 5\\]"):
        online_figure(pd.concat([WAY, WAY.assign(strength=4)]))

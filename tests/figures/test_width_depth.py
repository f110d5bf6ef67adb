"""The figure of the width × depth plane: `width_depth`."""

from __future__ import annotations

import pandas as pd

from dmpo_explore.analysis.width_depth import best_buys
from dmpo_explore.figures.style import MODEL_COLOURS
from dmpo_explore.figures.width_depth import width_depth_figure

ROWS = [
    ("slim", 0.8, 0.2, 0.21, 0.70, True),
    ("wide", 0.7, 0.3, 0.30, 0.65, False),
    ("wide", 0.9, 0.5, 0.52, 0.80, True),
]
PLANE = pd.DataFrame(ROWS, columns=["run", "threshold", "budget", "gflops", "accuracy", "front"])


def test_lines_front_and_band_hold_the_tables_numbers() -> None:
    figure = width_depth_figure(PLANE, best_buys(PLANE), {"wide": 0, "slim": 4})
    front, wide, slim, *band = figure.data
    assert list(front.x) == [0.21, 0.52] and list(front.y) == [0.70, 0.80]
    assert list(wide.x) == [0.30, 0.52] and wide.line.color == MODEL_COLOURS[0]
    assert list(slim.y) == [0.70] and slim.line.color == MODEL_COLOURS[4] and slim.marker.symbol != wide.marker.symbol
    assert [(trace.x, trace.line.color) for trace in band] == [
        ((0.2, 0.5), MODEL_COLOURS[4]),
        ((0.5, 0.5), MODEL_COLOURS[0]),
    ]
    assert all(trace.y[0] < PLANE["accuracy"].min() and trace.showlegend is False for trace in band)

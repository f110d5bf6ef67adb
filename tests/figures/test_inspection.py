"""Figures of inspection: traces hold the arrays' numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dmpo_explore.figures.inspection import (
    cka_figure,
    depth_figure,
    gradient_conflict_figure,
    probe_figure,
    token_colours_figure,
)

MATRIX = np.array([[1.0, -3.0], [0.5, 2.0]])
PROBES = pd.DataFrame({"exit": [1, 2], "low_level": [0.99, 0.9], "label": [0.5, 0.75]})
GRADIENTS = pd.DataFrame({"exit": [1, 2], "cosine": [-0.5, 0.25]})


def test_cka_shows_its_numbers_from_the_top() -> None:
    figure = cka_figure(MATRIX, ["r1", "r2"], ["c1", "c2"])
    (trace,) = figure.data
    assert (trace.zmin, trace.zmax, trace.texttemplate) == (0, 1, "%{z:.2f}")
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(trace.y) == ["r1", "r2"]
    assert list(trace.z[1]) == [0.5, 2.0]


def test_lines_differ_in_colour_dash_and_symbol() -> None:
    figure = depth_figure({"a": [1, 2, 3], "b": [2, np.nan]}, "y")
    looks = [(t.line.color, t.line.dash, t.marker.symbol) for t in figure.data]
    assert all(x != y for x, y in zip(*looks, strict=True))
    assert list(figure.data[0].x) == ["exit 1", "exit 2", "exit 3"]
    assert list(figure.data[1].x) == ["exit 1", "exit 2"]
    assert list(depth_figure({"a": [1, 2]}, "y", x=["block 1", "block 2"]).data[0].x) == ["block 1", "block 2"]
    assert figure.layout.yaxis.title.text == "y"


def test_probes_show_what_is_missed_and_what_is_found() -> None:
    figure = probe_figure({"trunk": PROBES, "read": PROBES.assign(low_level=1.0)})
    assert [trace.name for trace in figure.data] == ["trunk", "read"] * 2
    assert list(figure.data[0].y) == pytest.approx([0.01, 0.1])
    assert list(figure.data[1].y) == [1e-6, 1e-6]  # a logarithmic axis has no 0
    assert list(figure.data[2].y) == [0.5, 0.75]
    assert figure.layout.yaxis.type == "log"
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False]


def test_gradients_have_a_line_at_zero() -> None:
    figure = gradient_conflict_figure({"naive": GRADIENTS})
    assert list(figure.data[0].y) == [-0.5, 0.25]
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == 0
    assert figure.layout.yaxis.range == (-1, 1)


def test_tokens_as_colours_stand_beside_the_image() -> None:
    image, patches = np.zeros((8, 8, 3), np.uint8), np.full((2, 2, 3), 7, np.uint8)
    figure = token_colours_figure([patches] * 7, [f"exit {k}" for k in range(7)], image)
    assert np.array_equal(figure.data[0].z, image) and np.array_equal(figure.data[7].z, patches)
    assert [a.text for a in figure.layout.annotations] == ["input", *(f"exit {k}" for k in range(7))]

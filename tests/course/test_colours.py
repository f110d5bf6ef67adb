"""A line has the fixed colour of its name in every figure of the course."""

from __future__ import annotations

import numpy as np

import dmpo_explore as dx
from dmpo_explore.course.colours import COLOURS, INK, coloured
from dmpo_explore.course.interactive import Live, _Renderer
from dmpo_explore.figures.style import BYPASS, GREY, MODEL_COLOURS, translucent


def test_a_line_has_its_colour_wherever_it_stands() -> None:
    figure = coloured(dx.figures.depth_figure({"other": [0.5], "naive": [0.5], "fashion": [0.5]}, "accuracy"))
    found = [(line.line.color, line.marker.color, line.line.dash, line.marker.symbol) for line in figure.data]
    assert found[0][:2] == (MODEL_COLOURS[0], None)  # not in the table: as it was
    assert found[1] == (MODEL_COLOURS[1], MODEL_COLOURS[1], "dash", "square")
    assert found[2] == (MODEL_COLOURS[0], MODEL_COLOURS[0], "solid", "circle")


def test_a_band_has_the_colour_of_its_line() -> None:
    band, line = coloured(dx.figures.seeds_figure({"deep-only": np.ones((3, 2))}, "accuracy")).data
    assert line.line.color == MODEL_COLOURS[6] and band.fillcolor == translucent(MODEL_COLOURS[6])


def test_notebooks_show_figures_in_these_colours() -> None:
    shown = dx.figures.depth_figure({"entropy": [0.5]}, "accuracy")
    data = _Renderer().to_mimebundle(shown.to_plotly_json())["application/vnd.plotly.v1+json"]["data"]
    assert data[0]["line"]["color"] == MODEL_COLOURS[COLOURS["entropy"]]
    figure = Live(lambda: dx.figures.depth_figure({"entropy": [0.5]}, "accuracy"), {}).figure
    assert figure.data[0].line.color == MODEL_COLOURS[COLOURS["entropy"]]


def test_models_have_the_first_colours_and_the_bypass_its_own() -> None:
    assert [COLOURS[name] for name in ("fashion", "fashion-naive", "fashion-single", "untuned")] == [0, 1, 2, 3]
    assert MODEL_COLOURS[COLOURS["read"]] == BYPASS
    assert set(COLOURS.values()) <= set(range(len(MODEL_COLOURS)))


def contrast(one: str, other: str) -> float:
    """Ratio of two colours' luminances (WCAG 2)."""
    light = []
    for colour in (one, other):
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ (0.2126, 0.7152, 0.0722)))
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_words_are_dark_on_white_because_no_colour_reads_on_both_pages() -> None:
    figure = Live(lambda: dx.figures.depth_figure({"naive": [0.5]}, "accuracy"), {}).figure
    assert (figure.layout.paper_bgcolor, figure.layout.font.color) == ("white", INK)
    assert contrast(INK, "#ffffff") > 7 and contrast(GREY, "#ffffff") >= 4.5
    assert contrast("#ffffff", "#0d1117") ** 0.5 < 4.5  # the best that one colour can have on both

"""Figures of attributions: panels hold the maps, patches their values, on one scale."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dmpo_explore.figures.attribution import (
    WIDE,
    exit_maps_figure,
    patch_maps_figure,
    pathways_figure,
)

IMAGE = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
MAPS = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
LABELS = ["exit 1", "exit 2", "exit 3"]


def test_maps_share_one_symmetric_scale() -> None:
    figure = exit_maps_figure(IMAGE, MAPS, LABELS)
    assert [trace.type for trace in figure.data] == ["heatmap"] * 3
    for trace, values in zip(figure.data, MAPS, strict=True):
        np.testing.assert_array_equal(trace.z, values)
        assert trace.coloraxis == "coloraxis"
    axis = figure.layout.coloraxis
    assert axis.cmin == -axis.cmax
    assert axis.cmax == pytest.approx(np.quantile(np.abs(MAPS), 0.995))
    assert [note.text for note in figure.layout.annotations] == LABELS
    assert len(figure.layout.images) == 3
    assert all(image.source.startswith("data:image/png;base64,") for image in figure.layout.images)
    assert exit_maps_figure(IMAGE, MAPS, LABELS, scale=7).layout.coloraxis.cmax == 7


def test_maps_without_a_sign_start_at_zero() -> None:
    axis = exit_maps_figure(IMAGE, np.abs(MAPS), LABELS, signed=False).layout.coloraxis
    assert axis.cmin == 0
    assert axis.cmax > 0


def test_the_first_row_is_on_top_and_images_fill_the_panel() -> None:
    figure = exit_maps_figure(np.zeros((28, 28, 3), np.uint8), MAPS, LABELS, columns=2)
    assert list(figure.layout.yaxis.range) == [4.5, -0.5]
    assert [(image.xref, image.yref) for image in figure.layout.images] == [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    assert {(image.sizex, image.sizey) for image in figure.layout.images} == {(5, 5)}
    assert not figure.layout.xaxis4.visible and not figure.layout.yaxis4.visible  # the last place has no map


def test_bars_add_up() -> None:
    figure = pathways_figure([1.0, -2.0, 3.0], [0.5, 1.0, 0.0], LABELS, [1.5, -1.0, 3.0])
    assert figure.layout.barmode == "relative"
    assert [list(trace.y) for trace in figure.data] == [[1.0, -2.0, 3.0], [0.5, 1.0, 0.0], [1.5, -1.0, 3.0]]
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape


@pytest.mark.parametrize("hits", [0, 1])
def test_zero_is_the_middle_of_a_map_of_hardly_anything(hits: int) -> None:
    maps = np.zeros((1, 40, 40))
    maps[0, 0, :hits] = -3
    axis = exit_maps_figure(IMAGE, maps, ["exit 1"]).layout.coloraxis
    assert axis.cmin == -axis.cmax == -3 if hits else axis.cmin == -axis.cmax == -1


PATCHES = np.random.default_rng(0).normal(size=(6, 5, 5))
EXITS = [f"exit {k}" for k in range(1, 7)]


def squares(figure: object) -> list[tuple[float, float, float, float]]:
    """Left, right, bottom and top of every panel, in pixels."""
    layout = figure.layout  # type: ignore[attr-defined]
    names = ["", *(str(i) for i in range(2, len(layout.annotations) + 1))]
    sides = [(layout[f"xaxis{n}"].domain, layout[f"yaxis{n}"].domain) for n in names]
    return [(WIDE * x[0], WIDE * x[1], layout.height * y[0], layout.height * y[1]) for x, y in sides]


@pytest.mark.parametrize("several", [False, True])
def test_panels_are_squares_that_do_not_overlap(several: bool) -> None:
    many = ([IMAGE] * 3, np.stack([PATCHES] * 3), EXITS, ["a", "b", "c"]) if several else (IMAGE, PATCHES, EXITS)
    found = squares(patch_maps_figure(*many))
    assert len(found) == (21 if several else 7)
    for left, right, bottom, top in found:
        assert right - left == pytest.approx(top - bottom) and min(left, bottom) >= 0
    for one, other in itertools.combinations(found, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def test_values_stand_in_large_patches_and_colours_share_one_scale() -> None:
    figure = patch_maps_figure(IMAGE, PATCHES, EXITS, ["boot"])
    heats = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_array_equal(np.stack([trace.z for trace in heats]), PATCHES)
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-np.abs(PATCHES).max(), np.abs(PATCHES).max())
    texts = [trace for trace in figure.data if trace.type == "scatter" and trace.text]
    assert len(texts) == 6
    assert texts[0].text[0] == f"{PATCHES[0, 0, 0]:.1f}".replace("-", "−")
    assert [note.text for note in figure.layout.annotations] == ["boot", *EXITS]


def test_small_patches_have_no_text_and_a_hover_has_the_value() -> None:
    figure = patch_maps_figure([IMAGE], PATCHES[None], EXITS, ["boot"], own_scales=True)
    assert not [trace for trace in figure.data if trace.type == "scatter" and trace.text]
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    np.testing.assert_array_equal(heat.customdata, PATCHES[0])
    assert np.abs(heat.z).max() == figure.layout.coloraxis.cmax == 1.0


def test_words_are_legible_on_every_colour() -> None:
    figure = patch_maps_figure(IMAGE, [[[-1.0, -0.6], [0.1, 1.0]]], ["map"])
    words = figure.data[-1]
    assert list(words.text) == ["−1.0", "−0.6", "0.1", "1.0"]
    assert list(words.textfont.color) == ["white", "black", "black", "black"]


def test_a_map_of_zeros_and_large_values() -> None:
    assert set(patch_maps_figure(IMAGE, np.zeros((1, 2, 2)), ["map"]).data[-1].text) == {""}
    assert list(patch_maps_figure(IMAGE, [[[12.3, -0.04]]], ["map"]).data[-1].text) == ["12", ""]

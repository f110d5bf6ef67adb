"""Figures of attributions: panels hold the maps and share one scale."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dmpo_explore.figures.attribution import (
    exit_maps_figure,
    pathways_figure,
)

IMAGE = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
MAPS = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
LABELS = ["exit 1", "exit 2", "exit 3"]
QUALITY = SimpleNamespace(
    shares=np.linspace(0, 1, 5),
    insertion=np.linspace(0.1, 0.9, 5),
    deletion=np.linspace(0.9, 0.1, 5),
    insertion_area=0.61,
    deletion_area=0.32,
    random_insertion_area=0.53,
    random_deletion_area=0.54,
)


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


@pytest.mark.parametrize("wrong", [np.zeros((28, 28)), np.zeros((28, 28, 4), np.uint8), np.zeros(28, np.uint8)])
def test_a_wrong_image_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image of shape"):
        exit_maps_figure(wrong, MAPS, LABELS)


@pytest.mark.parametrize("hits", [0, 1])
def test_zero_is_the_middle_of_a_map_of_hardly_anything(hits: int) -> None:
    maps = np.zeros((1, 40, 40))
    maps[0, 0, :hits] = -3
    axis = exit_maps_figure(IMAGE, maps, ["exit 1"]).layout.coloraxis
    assert axis.cmin == -axis.cmax == -3 if hits else axis.cmin == -axis.cmax == -1

"""Maps as grids of patches beside the image: values stand in the patches, legible, on one symmetric scale."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from dmpo_explore.figures.attribution import WIDE, patch_maps_figure

IMAGE = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
MAPS = np.random.default_rng(0).normal(size=(6, 5, 5))
LABELS = [f"exit {k}" for k in range(1, 7)]


def squares(figure: object) -> list[tuple[float, float, float, float]]:
    """Left, right, bottom and top of every panel, in pixels."""
    layout = figure.layout  # type: ignore[attr-defined]
    names = ["", *(str(i) for i in range(2, len(layout.annotations) + 1))]
    sides = [(layout[f"xaxis{n}"].domain, layout[f"yaxis{n}"].domain) for n in names]
    return [(WIDE * x[0], WIDE * x[1], layout.height * y[0], layout.height * y[1]) for x, y in sides]


@pytest.mark.parametrize("several", [False, True])
def test_panels_are_squares_that_do_not_overlap(several: bool) -> None:
    many = ([IMAGE] * 3, np.stack([MAPS] * 3), LABELS, ["a", "b", "c"]) if several else (IMAGE, MAPS, LABELS)
    found = squares(patch_maps_figure(*many))
    assert len(found) == (21 if several else 7)
    for left, right, bottom, top in found:
        assert right - left == pytest.approx(top - bottom) and min(left, bottom) >= 0
    for one, other in itertools.combinations(found, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def test_values_stand_in_large_patches_and_colours_share_one_scale() -> None:
    figure = patch_maps_figure(IMAGE, MAPS, LABELS, ["boot"])
    heats = [trace for trace in figure.data if trace.type == "heatmap"]
    np.testing.assert_array_equal(np.stack([trace.z for trace in heats]), MAPS)
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-np.abs(MAPS).max(), np.abs(MAPS).max())
    texts = [trace for trace in figure.data if trace.type == "scatter" and trace.text]
    assert len(texts) == 6
    assert texts[0].text[0] == f"{MAPS[0, 0, 0]:.1f}".replace("-", "−")
    assert [note.text for note in figure.layout.annotations] == ["boot", *LABELS]
    assert json.loads(figure.to_json())["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"


def test_small_patches_have_no_text_and_a_hover_has_the_value() -> None:
    figure = patch_maps_figure([IMAGE], MAPS[None], LABELS, ["boot"], own_scales=True)
    assert not [trace for trace in figure.data if trace.type == "scatter" and trace.text]
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    np.testing.assert_array_equal(heat.customdata, MAPS[0])
    assert np.abs(heat.z).max() == figure.layout.coloraxis.cmax == 1.0


def test_words_are_legible_on_every_colour() -> None:
    figure = patch_maps_figure(IMAGE, [[[-1.0, -0.6], [0.1, 1.0]]], ["map"])
    words = figure.data[-1]
    assert list(words.text) == ["−1.0", "−0.6", "0.1", "1.0"]
    assert list(words.textfont.color) == ["white", "black", "black", "black"]


def test_a_map_of_zeros_and_large_values() -> None:
    assert set(patch_maps_figure(IMAGE, np.zeros((1, 2, 2)), ["map"]).data[-1].text) == {""}
    assert list(patch_maps_figure(IMAGE, [[[12.3, -0.04]]], ["map"]).data[-1].text) == ["12", ""]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="image of shape"):
        patch_maps_figure(IMAGE / 255, MAPS, LABELS)

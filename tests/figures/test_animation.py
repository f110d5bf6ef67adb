"""The animation of images that exit: its end, that it moves, and that it stands still where it has to."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dmpo_explore.figures.animation import exit_animation
from dmpo_explore.figures.style import CORRECT, INCORRECT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PIXELS = np.zeros((9, 28, 28, 3), np.uint8)
EXITS = np.array([0, 2, 0, 1, 0, 0, 0, 0, 2])
HITS = np.array([True, False, *[True] * 7])
LABELS = ["20 %", "60 %", "100 %"]
SVG = "{http://www.w3.org/2000/svg}"
PLACES = "() => [...document.querySelectorAll('.tile image')].map(i => i.getBoundingClientRect().x)"


def drawn(**options: Any) -> ET.Element:
    return ET.fromstring(exit_animation(PIXELS, EXITS, HITS, LABELS, **options))


def test_every_image_ends_below_its_exit_and_none_lies_on_another() -> None:
    root = drawn()
    boxes = [(float(r.get("x", "")), float(r.get("width", ""))) for r in root.findall(f"{SVG}rect")]
    tiles = root.findall(f"{SVG}g")
    places = [(float(t[0].get("x", "")), float(t[0].get("y", ""))) for t in tiles]
    assert len(boxes) == 3 and len(set(places)) == len(tiles) == 9
    for (x, _), exit in zip(places, EXITS, strict=True):
        left, width = boxes[exit]
        assert left - 3 <= x <= left + width + 3
    assert max(y for _, y in places) + 22 < float(root.get("height", ""))


def test_frames_show_what_is_correct_by_colour_and_dash() -> None:
    frames = [tile[1] for tile in drawn().findall(f"{SVG}g")]
    assert [frame.get("stroke") for frame in frames] == [CORRECT if hit else INCORRECT for hit in HITS]
    assert [frame.get("stroke-dasharray") is None for frame in frames] == HITS.tolist()


def test_the_label_counts_the_exits_and_texts_are_escaped() -> None:
    text = exit_animation(PIXELS, EXITS, HITS, LABELS, texts=["a < b"] * 9)
    root = ET.fromstring(text)
    expected = "9 images pass through 3 stages and exit: 6 at exit 1, 1 at exit 2, 2 at exit 3"
    assert root.get("aria-label") == expected and root.get("role") == "img"
    assert [t.text for t in root.iter(f"{SVG}title")] == ["a < b"] * 9


def test_what_does_not_move_has_no_motion_and_two_drawings_share_no_rule() -> None:
    still = exit_animation(PIXELS, EXITS, HITS, LABELS, moving=False)
    assert "animation" not in still and "keyframes" not in still
    text = exit_animation(PIXELS, EXITS, HITS, LABELS, name="other")
    assert "@keyframes other-2" in text and ".other .exit-2" in text and "travel" not in text


def test_no_images_are_an_empty_network() -> None:
    empty = exit_animation(PIXELS[:0], EXITS[:0], HITS[:0], LABELS)
    assert ET.fromstring(empty).get("aria-label", "").startswith("0 images")


@pytest.mark.parametrize(
    ("exits", "hits", "options", "message"),
    [
        (EXITS[:3], HITS, {}, "3 exits"),
        (EXITS, HITS[:2], {}, "2 correct"),
        (EXITS, HITS, {"texts": ["a"]}, "1 texts"),
        (EXITS + 1, HITS, {}, "exits from 1 to 3 but 3 labels"),
    ],
)
def test_it_refuses_what_does_not_fit(exits: Any, hits: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exit_animation(PIXELS, exits, hits, LABELS, **options)


@pytest.mark.browser
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_images_travel_unless_the_reader_prefers_reduced_motion(browser: Browser, motion: Any) -> None:
    """Halfway an image that exits at exit 3 lies left of its bin; with reduced motion all lie in their bins at once."""
    context = browser.new_context(reduced_motion=motion)
    page = context.new_page()
    try:
        page.set_content(exit_animation(PIXELS, EXITS, HITS, LABELS, moving=False))
        ends = page.evaluate(PLACES)
        page.set_content(exit_animation(PIXELS, EXITS, HITS, LABELS))
        begun = page.evaluate(PLACES)
        assert (begun == ends) == (motion == "reduce")
        if motion == "no-preference":
            assert begun[1] < ends[1] - 300
            page.wait_for_function("() => document.getAnimations().every(a => a.playState === 'finished')")
            assert page.evaluate(PLACES) == pytest.approx(ends)
    finally:
        context.close()

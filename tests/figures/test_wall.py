"""A wall of images: every tile lies where its row puts it, in the frame of its correctness."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageColor

from dmpo_explore.figures.style import CORRECT, INCORRECT
from dmpo_explore.figures.wall import FRAME, GAP, LINE, TILE, image_wall_figure

PIXELS = np.repeat(np.array([10, 120, 230], np.uint8), 4 * 4 * 3).reshape(3, 4, 4, 3)  # an evenly grey image each
ROWS = {"exit 1": [2, 0], "exit 2": [], "a<b": [1]}
ARGUMENTS: tuple[Any, ...] = (PIXELS, ROWS, [True, False, True], ["zero", "<one>", "two"])


def sheet(figure: Any) -> npt.NDArray[np.uint8]:
    address = figure.layout.images[0].source
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


@pytest.mark.parametrize(
    ("captions", "tall"),
    [((), TILE + GAP), (("c0", "c1", "c2"), TILE + GAP + LINE), (("c0", "c1\nd", "c2"), TILE + GAP + 2 * LINE)],
)
def test_tiles_lie_in_their_rows_with_frames_by_correctness(captions: tuple[str, ...], tall: int) -> None:
    pixels = sheet(image_wall_figure(*ARGUMENTS, captions=captions))
    assert pixels.shape == (3 * tall, 2 * (TILE + GAP), 4)
    for i, x, y, colour in ((2, 0, 0, CORRECT), (0, 1, 0, CORRECT), (1, 0, 2, INCORRECT)):
        left, top = x * (TILE + GAP), y * tall
        assert tuple(pixels[top + TILE // 2, left + TILE // 2]) == (*PIXELS[i, 0, 0], 255)
        assert tuple(pixels[top + TILE - 1, left + FRAME - 1, :3]) == ImageColor.getrgb(colour)
    corners = [pixels[y * tall + 6, x * (TILE + GAP) + TILE - 6, 0] for x, y in ((0, 0), (0, 2))]
    assert corners[0] == PIXELS[2, 0, 0, 0] and corners[1] != PIXELS[1, 0, 0, 0]  # the notch: colour is not alone
    assert not pixels[tall : 2 * tall].any()  # an empty row is transparent, on a light and on a dark page


def test_a_caption_may_have_lines() -> None:
    figure = image_wall_figure(*ARGUMENTS, captions=["a\n→ b", "<c>", "d"])
    assert list(figure.data[0].text) == ["d", "a<br>→ b", "&lt;c&gt;"]


def test_texts_and_captions_stand_at_their_tiles() -> None:
    figure = image_wall_figure(*ARGUMENTS, captions=["c0", "c1", "c2"], columns=4)
    tiles = figure.data[0]
    assert list(tiles.customdata) == ["two", "zero", "&lt;one&gt;"] and list(tiles.text) == ["c2", "c0", "c1"]
    assert [x // (TILE + GAP) for x in tiles.x] == [0, 1, 0]
    assert [y // (TILE + GAP + LINE) for y in tiles.y] == [0, 0, 2]
    assert list(figure.layout.yaxis.ticktext) == ["exit 1", "exit 2", "a&lt;b"]
    assert figure.layout.xaxis.range == (0, 4 * (TILE + GAP)) and figure.layout.images[0].sizex == 4 * (TILE + GAP)
    assert [trace.name for trace in figure.data[1:]] == ["correct", "incorrect"]


def test_room_for_captions_lies_on_both_sides_of_a_tile() -> None:
    figure = image_wall_figure(*ARGUMENTS, captions=["c0", "c1", "c2"], room=20)
    pixels = sheet(figure)
    assert pixels.shape[1] == 2 * (TILE + GAP + 20) == figure.layout.xaxis.range[1]
    assert not pixels[:, :10].any() and pixels[TILE // 2, 10 : 10 + TILE, 3].all()
    assert list(figure.data[0].x) == [TILE / 2 + 10, TILE + GAP + 20 + TILE / 2 + 10, TILE / 2 + 10]

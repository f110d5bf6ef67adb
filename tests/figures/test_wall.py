"""Walls of images, their thumbnails, and counts by class."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageColor

import dmpo_explore as dx
from dmpo_explore.figures.style import CORRECT, INCORRECT
from dmpo_explore.figures.wall import FRAME, GAP, LINE, THUMBNAIL, TILE, image_wall_figure

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


CORNERS = np.array([[[200, 40, 40], [40, 160, 40]], [[40, 40, 200], [230, 230, 230]]], np.uint8)
SIZES = [(300, 200), (200, 300), (600, 150), (80, 390), (160, 160), (2000, 1500), (9, 7), (2, 2)]  # width, height


def drawn(width: int, height: int) -> Image.Image:
    """Four colours, one in each quarter."""
    return Image.fromarray(CORNERS).resize((width, height), Image.Resampling.NEAREST)


def shown(path: Path, most: int = THUMBNAIL) -> Image.Image:
    """The thumbnail of an image file, as a browser decodes it."""
    return decoded(dx.figures.thumbnail_address(dx.data.open_image(path), most))


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def corners(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    h, w = pixels.shape[:2]
    rows, columns = (h // 4, h - 1 - h // 4), (w // 4, w - 1 - w // 4)
    return np.array([[pixels[r, c] for c in columns] for r in rows])


@pytest.mark.parametrize("size", SIZES)
def test_every_shape_keeps_its_aspect(size: tuple[int, int], tmp_path: Path) -> None:
    drawn(*size).save(tmp_path / "image.png")
    image = shown(tmp_path / "image.png")
    assert max(image.size) == min(max(size), THUMBNAIL)
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert np.abs(corners(image) - CORNERS).max() <= 12  # JPEG


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 400), (1, 5)), ((400, 1), (5, 1)), ((1, 1), (1, 1)), ((900, 100), (160, 32))]
)
def test_of_a_line_the_middle_is_shown(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    h, w = (min(a, 5 * b) for a, b in (size[::-1], size))
    image[(size[1] - h) // 2 :, (size[0] - w) // 2 :][:h, :w] = 200  # what is left of it
    found = decoded(dx.figures.thumbnail_address(image))
    assert found.size == expected and (np.asarray(found) >= 198).all()


def test_small_images_are_exact_and_large_ones_as_sharp_as_asked(tmp_path: Path) -> None:
    drawn(2000, 1500).save(tmp_path / "large.png")
    assert shown(tmp_path / "large.png", 384).size == (384, 288)
    small = np.random.default_rng(0).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decoded(dx.figures.thumbnail_address(small))), small)


def test_bars_are_the_counts_and_names_stay_literal() -> None:
    counts = {"train": [3, 0, 5], "val": [1, 1, 1]}
    long = "a name of more than thirty-two characters (class 4)"
    figure = dx.figures.class_counts_figure(counts, ["<b>cat", "dog", long])
    assert [(bars.name, bars.x.tolist()) for bars in figure.data] == [("train", [3, 0, 5]), ("val", [1, 1, 1])]
    assert list(figure.data[0].y) == ["&lt;b&gt;cat", "dog", long]  # with its number among all classes
    assert len({bars.marker.pattern.shape for bars in figure.data}) == 2 and figure.layout.barmode == "stack"

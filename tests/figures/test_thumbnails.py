"""Thumbnails of images of any shape and kind keep aspect and colours."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.figures.wall import THUMBNAIL

CORNERS = np.array([[[200, 40, 40], [40, 160, 40]], [[40, 40, 200], [230, 230, 230]]], np.uint8)
SIZES = [(300, 200), (200, 300), (600, 150), (80, 390), (160, 160), (2000, 1500), (9, 7), (2, 2)]  # width, height
KINDS: dict[str, Any] = {
    "plain.png": lambda image: image,
    "grey.jpg": lambda image: image.convert("L"),
    "print.jpg": lambda image: image.convert("CMYK"),
    "alpha.png": lambda image: image.convert("RGBA"),
    "palette.gif": lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE),
    "deep.png": lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
}


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


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_keeps_its_colours(name: str, tmp_path: Path) -> None:
    KINDS[name](drawn(300, 200)).save(tmp_path / name)
    image = shown(tmp_path / name)
    grey = np.asarray(drawn(2, 2).convert("L").convert("RGB"))
    assert image.size == (160, 107)
    assert np.abs(corners(image) - (grey if name in ("grey.jpg", "deep.png") else CORNERS)).max() <= 20


def test_a_photograph_that_was_turned_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(300, 200).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = shown(tmp_path / "turned.jpg")
    assert image.size == (160, 107) and np.abs(corners(image) - CORNERS).max() <= 12


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

"""Every kind of image becomes the same array as by Pillow's own conversions, in bands of any height."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from dmpo_explore.data import image_files
from dmpo_explore.data.image_files import to_rgb

COLOURS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


@pytest.fixture(params=[1, 12, image_files.BAND])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "BAND", request.param)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("orientation", [None, *range(10)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation_is_the_one_that_pillow_applies(orientation: int | None, kind: str) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[image_files.ORIENTATION] = orientation
    Image.fromarray(COLOURS).save(file, kind, exif=exif)
    with Image.open(file) as image, Image.open(io.BytesIO(file.getvalue())) as again:
        found, expected = to_rgb(image), np.asarray(ImageOps.exif_transpose(again))
    assert np.array_equal(found, expected) and found.flags.c_contiguous


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"])
def test_colours_are_those_of_pillow(mode: str) -> None:
    image = Image.fromarray(COLOURS)
    image = image.convert("L").convert("F").convert("L") if mode == "L" else image
    image = Image.merge(mode, image.split()) if mode in ("LAB", "HSV") else image.convert(mode)
    assert np.array_equal(to_rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparent_areas_become_white(mode: str) -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(7, 5)[..., None] * 7
    image = Image.fromarray(np.concatenate([COLOURS, alpha], 2))
    image = image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
    colours = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    assert np.array_equal(to_rgb(image), np.asarray(expected))


@pytest.mark.usefixtures("_bands")
def test_the_scale_of_floats_is_that_of_the_whole_image() -> None:
    unit = np.zeros((7, 5), np.float32)
    unit[6, 4] = 1.0
    assert to_rgb(Image.fromarray(unit)).max() == 255
    unit[6, 3] = 100.0  # only the last band says that these are values from 0 to 255
    assert to_rgb(Image.fromarray(unit))[6].tolist() == [[0] * 3] * 3 + [[100] * 3, [1] * 3]

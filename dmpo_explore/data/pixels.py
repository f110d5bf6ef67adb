"""An opened Pillow image → uint8 (H, W, 3): RGB, upright, in little more memory than the image itself.

No torch. Ours: the EXIF orientation is applied, transparent areas become white, and greys of 16 bits or more are scaled
to 8 bits (a plain conversion would clip them). The conversion goes by bands of rows, because each of its steps copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

BAND = 2**20  # pixels that are converted at once
ORIENTATION = 0x0112  # EXIF tag
Pixels = NDArray[np.uint8]
# EXIF orientation → view of the upright array (H, W, 3) as the file stores it
_AS_STORED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}


def to_rgb(image: Image) -> Pixels:
    """Decode an image: uint8 (H, W, 3), RGB, upright, C-contiguous. The caller has checked its size.

    Raises what Pillow raises for a damaged file.
    """
    image.load()  # first: Pillow applies a TIFF's orientation here
    orientation = image.getexif().get(ORIENTATION)
    width, height = image.size
    swapped = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if swapped else (height, width, 3), np.uint8)
    stored = _AS_STORED[orientation](upright) if orientation in _AS_STORED else upright
    convert = _converter(image)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return upright


def _converter(image: Image) -> Callable[[Image], Pixels]:
    """How bands of ``image`` become RGB."""
    if image.mode.startswith("I"):
        return _deep_grey
    if image.mode == "F":
        highest = image.getextrema()[1]
        unit = isinstance(highest, float) and highest <= 1
        return lambda band: _float_grey(band, 1 if unit else 255)
    return _on_white if image.has_transparency_data else _plain


def _deep_grey(band: Image) -> Pixels:
    values = np.clip(np.asarray(band), 0, 65535).astype(np.uint32)
    return _three((values + 128) // 257)  # 65535 = 255 * 257


def _float_grey(band: Image, top: int) -> Pixels:
    return _three(np.rint(np.asarray(band, np.float32).clip(0, top) * np.float32(255 / top)))


def _three(grey: NDArray[np.generic]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _on_white(band: Image) -> Pixels:
    from PIL import Image

    band = band.convert("RGBA")
    return _plain(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band))


def _plain(band: Image) -> Pixels:
    return np.asarray(band.convert("RGB"), np.uint8)

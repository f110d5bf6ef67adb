"""Photographs of a piece of clothing in the looks of Fashion-MNIST: grey on black, 28 pixels, cut to the piece.

In: uint8 (H, W, 3), a file that was uploaded, or nothing. Out: uint8 (28, 28, 3). The steps follow those that Xiao et
al. (2017) describe for the data set's catalogue photographs; photographs with a busy background do not become alike.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps

SIDE = 28
_SHIRT = (
    (70, 40), (120, 40), (150, 58), (180, 40), (230, 40), (285, 105), (250, 140), (220, 112), (220, 280), (80, 280),
    (80, 112), (50, 140), (15, 105),
)  # fmt: skip

Pixels = npt.NDArray[np.uint8]


def drawn(what: str) -> Pixels:
    """A drawing, dark on white, uint8 (320, 300, 3): ``T-shirt`` or ``wheel``.

    Raises:
        ValueError: another name.
    """
    image = Image.new("RGB", (300, 320), "white")
    pen = ImageDraw.Draw(image)
    if what == "T-shirt":
        pen.polygon(_SHIRT, fill="#36454f")
    elif what == "wheel":
        pen.ellipse((30, 40, 270, 280), outline="#36454f", width=26)
        for x, y in ((0, 110), (78, 78), (110, 0), (78, -78)):
            pen.line((150 - x, 160 - y, 150 + x, 160 + y), fill="#36454f", width=12)
    else:
        raise ValueError(f"no drawing of {what!r}; there are T-shirt and wheel")
    return np.asarray(image)


def uploaded(files: Sequence[Mapping[str, Any]], otherwise: str) -> Pixels:
    """The first file of an upload button's value, uint8 (H, W, 3) and upright; without files what is `drawn`."""
    if not files:
        return drawn(otherwise)
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(bytes(files[0]["content"]))))
    return np.asarray(image.convert("RGB"))


def like_fashion_mnist(image: npt.ArrayLike) -> Pixels:
    """uint8 (H, W, 3) → (28, 28, 3): grey, negated if its border is bright, background black, cut, padded, small.

    Raises:
        ValueError: another shape.
    """
    pixels = np.asarray(image, np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"an image is (H, W, 3), not {pixels.shape}")
    grey = np.asarray(Image.fromarray(pixels).convert("L"), float)
    border = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    grey, border = (255 - grey, 255 - border) if border > 127 else (grey, border)
    light = (grey - border).clip(0)
    light *= 255 / max(light.max(), 1)
    rows, columns = (np.flatnonzero((light > 40).mean(axis=axis) > 0.01) for axis in (1, 0))
    if rows.size and columns.size:
        light = light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    piece = Image.fromarray(light.astype(np.uint8))
    small = ImageOps.pad(piece, (SIDE, SIDE), method=Image.Resampling.LANCZOS, color=0)
    return np.repeat(np.asarray(small)[..., None], 3, axis=2)

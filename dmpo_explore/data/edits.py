"""Edits of one image, to see what they change: crop, blur, grey, rotate, cover; by Pillow, without torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from ..utils.registry import lookup

Pixels = npt.NDArray[np.uint8]


def _crop(image: Image.Image, amount: float) -> Image.Image:
    width, height = image.size
    x, y = round(0.45 * amount * width), round(0.45 * amount * height)
    return image.crop((x, y, max(width - x, x + 1), max(height - y, y + 1)))


def _cover(image: Image.Image, amount: float) -> Image.Image:
    width, height = (max(1, round(amount * side)) for side in image.size)
    place = (image.width - width) // 2, (image.height - height) // 2
    image.paste((128, 128, 128), (*place, place[0] + width, place[1] + height))
    return image


EDITS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "crop": _crop,
    "blur": lambda image, amount: image.filter(ImageFilter.GaussianBlur(0.1 * amount * min(image.size))),
    "grey": lambda image, amount: Image.blend(image, image.convert("L").convert("RGB"), amount),
    "rotate": lambda image, amount: image.rotate(180 * amount, Image.Resampling.BILINEAR),
    "cover": _cover,
}


def edited(pixels: Pixels, name: str, amount: float) -> Pixels:
    """An image (H, W, 3) uint8 after an edit of `EDITS`; only a crop changes its size.

    Args:
        amount: 0 to 1, of the crop's border, the blur, the colours taken away, half a turn to the left, or the sides of
            the grey square in the middle.

    Raises:
        ValueError: an unknown edit, or another amount.

    Example:
        >>> white = np.full((8, 8, 3), 255, np.uint8)
        >>> edited(white, "cover", 0.5)[:, 4, 0].tolist()
        [255, 255, 128, 128, 128, 128, 255, 255]
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount!r} must lie between 0 and 1")
    return np.asarray(lookup(EDITS, name, "edit")(Image.fromarray(pixels), amount))

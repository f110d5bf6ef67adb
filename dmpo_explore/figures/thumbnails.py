"""Images small enough for a page: any shape in, PNG or JPEG in a ``data:`` address out, never distorted."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL = 160  # pixels of the longer side; larger images are made smaller
EXACT = 72  # up to so many pixels an image stays as it is, in PNG, and pages enlarge it without smoothing
LONGEST_SHAPE = 5  # of an image more than so many times as long as wide the middle is shown: the whole would be a line


def thumbnail_address(image: npt.NDArray[np.uint8], most: int = THUMBNAIL) -> str:
    """An image (H,W,3) uint8 as a ``data:`` address of `smaller_image`: PNG up to `EXACT` pixels, else JPEG.

    Example:
        >>> thumbnail_address(np.zeros((28, 28, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    drawn, stream = smaller_image(image, most), io.BytesIO()
    if max(drawn.size) > EXACT:
        drawn.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    drawn.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def smaller_image(image: npt.NDArray[np.uint8], most: int) -> Image.Image:
    """`middle_part` of an image (H,W,3), its longer side at most ``most`` pixels; an image without colour in grey.

    Example:
        >>> smaller_image(np.zeros((300, 200, 3), np.uint8), 30).size  # width, height
        (20, 30)
    """
    part = middle_part(image)
    grey = bool((part == part[..., :1]).all())  # a third of the bytes
    drawn = Image.fromarray(np.ascontiguousarray(part[..., 0] if grey else part))
    drawn.thumbnail((most, most))
    return drawn


def middle_part(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of an image (H,W,3) that is more than `LONGEST_SHAPE` times as long as wide; others as they are.

    Example:
        >>> middle_part(np.zeros((10, 200, 3), np.uint8)).shape
        (10, 50, 3)
    """
    parts = []
    for side, other in (image.shape[:2], image.shape[1::-1]):
        kept = min(side, LONGEST_SHAPE * other)
        parts.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    return image[tuple(parts)]

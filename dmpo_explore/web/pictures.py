"""Pictures of a page: a sheet with a small one for each tile, larger ones that run through the network, and a few to
classify.

In: images (H, W, 3) uint8. Out: files and what the page needs of them. Where all images are small and alike (`EXACT`
pixels), the sheet holds them pixel by pixel, and every tile can be classified; else the middle square of each, and the
images to classify have files of their own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..figures.wall import EXACT, smaller_image
from ..utils.typing import Ints
from .places import PageFiles

SAMPLES = 18  # pictures to classify
SMALL = 48  # pixels of a tile's side where images are larger than `EXACT`
RUNNING = 320  # pixels of the longer side of a picture that runs through the network
LARGEST = 640  # pixels of the longer side of a picture to classify
COLUMNS = 40
FOLDER = "pictures"
Pixels = npt.NDArray[np.uint8]


def write_pictures(place: PageFiles, images: Sequence[Pixels], samples: Sequence[int] = ()) -> dict[str, Any]:
    """Add the sheet, and files of ``samples`` where the sheet is not exact.

    Args:
        images: of the tiles, in their order. samples: positions among them.

    Returns:
        ``sheet``, a file; ``columns``; ``width`` and ``height`` of a cell; ``exact``; ``samples``: position → file.
    """
    exact = len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= EXACT
    height, width = images[0].shape[:2] if exact else (SMALL, SMALL)
    rows = -(-len(images) // COLUMNS)
    sheet = np.full((rows * height, COLUMNS * width, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // COLUMNS * height, i % COLUMNS * width
        sheet[top : top + height, left : left + width] = image if exact else _square(image, SMALL)
    files = {} if exact else {i: _encoded(_within(images[i], LARGEST), "png") for i in samples}
    kind = "png" if exact else "jpg"
    return {
        "sheet": place.add(f"{FOLDER}/sheet.{kind}", _encoded(_drawn(sheet), kind)), "columns": COLUMNS,
        "width": width, "height": height, "exact": exact,
        "samples": {str(i): place.add(f"{FOLDER}/{i + 1:04}.png", content) for i, content in files.items()},
    }  # fmt: skip


def write_running(place: PageFiles, images: Sequence[Pixels]) -> list[dict[str, Any]]:
    """Add the pictures that run through the network; returns their files."""
    kinds = ["png" if max(image.shape[:2]) <= EXACT else "jpg" for image in images]
    return [
        place.add(f"{FOLDER}/running-{i + 1}.{kind}", _encoded(smaller_image(image, RUNNING), kind))
        for i, (image, kind) in enumerate(zip(images, kinds, strict=True))
    ]


def _square(image: Pixels, side: int) -> Pixels:
    return np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.LANCZOS).convert("RGB"))


def _within(image: Pixels, side: int) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return picture


def _drawn(sheet: Pixels) -> Image.Image:
    grey = bool((sheet == sheet[..., :1]).all())
    return Image.fromarray(np.ascontiguousarray(sheet[..., 0] if grey else sheet))


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "jpg":
        picture.save(stream, "JPEG", quality=82)
    else:
        picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def varied(exits: Ints, labels: Ints, amount: int = SAMPLES) -> list[int]:
    """Positions of images to classify: every exit in turn, classes that were not taken yet first.

    Example:
        >>> varied(np.array([0, 0, 0, 1]), np.array([4, 4, 5, 4]), 3)
        [0, 3, 2]
    """
    taken: list[int] = []
    while len(taken) < min(amount, len(exits)):
        for exit in np.unique(exits):
            left = [i for i in np.flatnonzero(exits == exit).tolist() if i not in taken]
            if left and len(taken) < amount:
                seen = [labels[i] for i in taken]
                taken.append(min(left, key=lambda i: seen.count(labels[i])))
    return taken

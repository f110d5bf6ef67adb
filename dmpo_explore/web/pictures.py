"""Pictures of a page: a sheet with a small picture for each tile of the mosaic, and a few to classify.

In: images (H, W, 3) uint8, in the order of the tiles. Out: files in the folder ``pictures`` and what the page needs of
them. Where all images are small and alike (`EXACT` pixels), the sheet holds them pixel by pixel, and every tile can be
classified; else the images to classify have files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..figures.thumbnails import EXACT, smaller_image
from ..utils.typing import Ints
from .facts import file_facts

TILES = 240  # images of the record in the mosaic
SAMPLES = 18  # pictures to classify
SMALL = 64  # pixels of a tile's longer side where images are larger than `EXACT`
LARGEST = 640  # pixels of the longer side of a picture to classify
COLUMNS = 20
FOLDER = "pictures"
Pixels = npt.NDArray[np.uint8]


def write_pictures(folder: Path, images: Sequence[Pixels], samples: Sequence[int]) -> dict[str, Any]:
    """Write the sheet, and files of ``samples`` where the sheet is not exact.

    Args:
        samples: positions among ``images``.

    Returns:
        ``sheet``, a file; ``columns``; ``width`` and ``height`` of a cell; ``exact``; ``samples``: position → file.
    """
    place = folder / FOLDER
    place.mkdir()
    exact = len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= EXACT
    height, width = images[0].shape[:2] if exact else (SMALL, SMALL)
    rows = -(-len(images) // COLUMNS)
    sheet = np.full((rows * height, COLUMNS * width, 3), 255, np.uint8)
    for i, image in enumerate(images):
        cell = image if exact else np.asarray(smaller_image(image, SMALL).convert("RGB"))
        top = i // COLUMNS * height + (height - cell.shape[0]) // 2
        left = i % COLUMNS * width + (width - cell.shape[1]) // 2
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    name = place / ("sheet.png" if exact else "sheet.jpg")
    _drawn(sheet).save(name, quality=88)  # quality: of JPEG alone
    files = {} if exact else {i: place / f"{i + 1:03}.png" for i in samples}
    for i, file in files.items():
        picture = Image.fromarray(images[i])
        picture.thumbnail((LARGEST, LARGEST))
        picture.save(file)
    return {
        "sheet": file_facts(folder, name), "columns": COLUMNS, "width": width, "height": height, "exact": exact,
        "samples": {str(i): file_facts(folder, file) for i, file in files.items()},
    }  # fmt: skip


def _drawn(sheet: Pixels) -> Image.Image:
    grey = bool((sheet == sheet[..., :1]).all())
    return Image.fromarray(np.ascontiguousarray(sheet[..., 0] if grey else sheet))


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

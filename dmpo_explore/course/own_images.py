"""Example images for notebook 07: photographs as files, a folder per class, and others that no training reads.

In: a folder. Out: ``images/CLASS/*.png`` to train on and ``new/CLASS/*.png``. Where Caltech-101 is on this computer
they are its photographs, else cuts of public-domain pictures that come with scikit-image.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.images import load_images
from ..utils.extras import extra_imports

PUBLIC = ("brick", "coffee", "coins", "grass", "gravel", "moon")  # of skimage.data: CC0 or public domain
CALTECH = ("bonsai", "car_side", "chandelier", "ketch", "Leopards", "watch")  # its classes of more than 100 images
SIDE = 72  # pixels of a cut


def make_images(folder: Path, count: int = 100, new: int = 5) -> str:
    """Write ``count`` images a class below ``folder/images`` and ``new`` others below ``folder/new``; what they are.

    Args:
        folder: is made where it is missing. count: images of every class to train on; Caltech-101 has 107 to 239.
        new: images of every class that no training reads. Cuts of a public-domain picture are from its right quarter;
            no cut to train on is from there.

    Returns:
        A sentence that names the source.
    """
    try:
        if os.environ.get("NOTEBOOK_PUBLIC"):
            raise FileNotFoundError
        images, source = _caltech(count + new), "photographs of Caltech-101 (CC BY 4.0)"
    except FileNotFoundError:
        images, source = _cuts(count, new), "cuts of six pictures in the public domain, of scikit-image"
    for name, pictures in images.items():
        for i, pixels in enumerate(pictures):
            path = folder / ("images" if i < count else "new") / name / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return f"{len(images)} classes: {source}"


def _caltech(most: int) -> dict[str, list[npt.NDArray[Any]]]:
    found: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in CALTECH}
    for split in ("train", "val", "calibration", "test"):
        images = load_images("caltech101", split)
        for name, pictures in found.items():
            rows = np.flatnonzero(images.labels == images.class_names.index(name))
            pictures += [images[int(row)] for row in rows[: most - len(pictures)]]
    return found


def _cuts(count: int, new: int) -> dict[str, list[npt.NDArray[Any]]]:
    with extra_imports("a notebook's photographs", "notebooks"):
        from skimage import data
    random, found = np.random.default_rng(0), {}
    for name in PUBLIC:
        picture = np.asarray(getattr(data, name)())
        height, width = picture.shape[:2]
        border = width - max(width // 4, SIDE)
        lefts = [*random.integers(0, border - SIDE, count), *random.integers(border, width - SIDE + 1, new)]
        tops = random.integers(0, height - SIDE, count + new)
        found[name] = [picture[y : y + SIDE, x : x + SIDE] for x, y in zip(lefts, tops, strict=True)]
    return found

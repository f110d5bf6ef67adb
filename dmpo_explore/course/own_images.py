"""Example images for notebook 07: files in a folder per class, and others that no training reads.

In: a folder. Out: ``images/CLASS/*.png`` to train on and ``new/CLASS/*.png``. Where Caltech-101 is on this computer
they are its photographs, else clothes of the bundled test images of Fashion-MNIST.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import dmpo_explore as dx

from ..data.images import load_images

GARMENTS = ("Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker")  # two kinds of shoes, four that are alike
CALTECH = ("bonsai", "car_side", "chandelier", "ketch", "Leopards", "watch")  # its classes of more than 100 images


def make_images(folder: Path, count: int = 900, new: int = 5) -> str:
    """Write ``count`` images a class below ``folder/images`` and ``new`` others below ``folder/new``; what they are.

    Args:
        folder: is made where it is missing. count: at most so many images of every class to train on; Caltech-101 has
            107 to 239. new: images of every class that no training reads.

    Returns:
        A sentence that names the source.
    """
    try:
        if os.environ.get("NOTEBOOK_PUBLIC"):
            raise FileNotFoundError
        images, source = _caltech(count + new), "photographs of Caltech-101 (CC BY 4.0)"
    except FileNotFoundError:
        images, source = _garments(count + new), "clothes of Fashion-MNIST (MIT licence)"
    for name, pictures in images.items():
        for i, pixels in enumerate(pictures):
            path = folder / ("images" if i < len(pictures) - new else "new") / name / f"{i:04d}.png"
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


def _garments(most: int) -> dict[str, list[npt.NDArray[Any]]]:
    run = dx.load_run("demo")
    images, labels, names = run.image_set("test"), run.record("test").labels, run.record("test").meta.class_names
    rows = {name: np.flatnonzero(labels == names.index(name))[:most] for name in GARMENTS}
    return {name: [np.asarray(images[int(row)]) for row in found] for name, found in rows.items()}

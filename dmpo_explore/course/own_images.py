"""Images for notebook 07: a folder of one's own, or example images in a folder per class.

In: a folder of class folders, or none. Out: that folder, with ``runs`` beside it; or ``images/CLASS/*.png`` to train on
and ``new/CLASS/*.png``, which no training reads. Where Caltech-101 is on this computer they are its photographs, else
clothes of the bundled test images of Fashion-MNIST.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import dmpo_explore as dx

from ..data.image_files import find_images, open_image
from ..data.image_set import ImageSet
from ..data.images import load_images

GARMENTS = ("Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker")  # two kinds of shoes, four that are alike
CALTECH = ("bonsai", "car_side", "chandelier", "ketch", "Leopards", "watch")  # its classes of more than 100 images


_temporary: list[tempfile.TemporaryDirectory[str]] = []  # go away with the process


def start(folder: str | Path | None = None) -> tuple[Path, str]:
    """Take a folder of class folders, and keep runs in ``runs`` beside it; without one make example images.

    Args:
        folder: with a folder of images per class. None: example images in a temporary folder.

    Returns:
        the folder of the images, and a sentence about it.

    Raises:
        FileNotFoundError: there is no such folder, or it has no folders in it.
    """
    if folder is None:
        _temporary.append(tempfile.TemporaryDirectory())
        place = Path(_temporary[-1].name)
        what, images = make_images(place), place / "images"
    else:
        images = Path(folder).expanduser().resolve()
        classes = sorted(path.name for path in images.glob("[!.]*/")) if images.is_dir() else []
        if not classes:
            raise FileNotFoundError(f"FOLDER={str(folder)!r} must be a folder that has one folder of images per class")
        what = f"{len(classes)} classes: {', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}"
    os.chdir(images.parent)
    os.environ["DMPO_EXPLORE_RUNS"] = str(images.parent / "runs")
    return images, what


def trained(config: dx.Config, name: str) -> dx.Run:
    """The run of that name, trained if there is none yet: with a folder of one's own it is there the second time.

    A training that was stopped continues after its last finished epoch.

    Raises:
        ValueError: the run that is there was trained with other settings.
    """
    try:
        return dx.train(config, name)
    except FileExistsError:
        run = dx.load_run(name)
    if changed := [option for option in dx.OPTIONS if run.config.get(option) != config.get(option)]:
        again = f"delete the folder {run.path} to train it again"
        raise ValueError(f"run {name!r} was trained with another {', '.join(changed)}; {again}")
    finished = len(run.history()) == config.training.epochs
    return run if finished else dx.train(config, name, resume=True)


def recorded(run: dx.Run, split: str) -> dx.ExitRecord:
    """The record of ``split``, made if the run has none yet."""
    try:
        return dx.record_run(run, split)
    except FileExistsError:
        return run.record(split)


def new_images(images: Path, test: ImageSet, each: int = 5) -> dict[str, npt.NDArray[np.uint8]]:
    """``CLASS/FILE`` → pixels: the files of ``new`` beside the images, else ``each`` test images of every class."""
    folder = images.parent / "new"
    if folder.is_dir():
        return {f"{path.parent.name}/{path.name}": open_image(path) for path in find_images([folder])}
    rows = [int(row) for label in range(len(test.class_names)) for row in np.flatnonzero(test.labels == label)[:each]]
    return {f"{test.class_names[test.labels[row]]}/test image {row}": test[row] for row in rows}


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
    run = dx.load_run("fashion")
    images, labels, names = run.image_set("test"), run.record("test").labels, run.record("test").meta.class_names
    rows = {name: np.flatnonzero(labels == names.index(name))[:most] for name in GARMENTS}
    return {name: [np.asarray(images[int(row)]) for row in found] for name, found in rows.items()}

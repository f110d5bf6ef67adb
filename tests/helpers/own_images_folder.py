"""A small folder of images by class: every image has a colour of its own, by which it is known again."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def paint(path: Path, number: int, size: int = 8) -> Path:
    """An image whose colour tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (number % 251, number // 251, 77)).save(path)
    return path


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 20, first: int = 0) -> Path:
    """``folder``/CLASS/NN.png, ``count`` of each class."""
    for label, name in enumerate(classes):
        for i in range(count):
            paint(folder / name / f"{i:02d}.png", first + label * count + i)
    return folder

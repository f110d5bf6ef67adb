"""Example images for notebook 07: scikit-learn's digits as PNG files, a folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def make_images(folder: Path, count: int = 400) -> Path:
    """Write the first ``count`` digits as ``folder/seven/0042.png``, 8 x 8 pixels, grey; returns ``folder``."""
    data = load_digits()
    for i, (image, label) in enumerate(zip(data.images[:count], data.target, strict=False)):
        path = folder / NAMES[label] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(path)
    return folder

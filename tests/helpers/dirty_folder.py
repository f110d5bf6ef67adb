"""A folder of images in which everything is wrong at once: broken, too large, doubled and misplaced files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")
BROKEN = ("train/cat/01.jpg", "train/cat/02.jpg", "train/dog/03.jpg")
TOO_LARGE = "train/owl/huge.png"


def draw(path: Path, width: int = 12, height: int = 9) -> Path:
    """A small image of noise that depends on the path's end alone."""
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(255, size=(height, width, 3), dtype=np.uint8)).save(path)
    return path


def clean_folder(folder: Path, train: int = 10, test: int = 3) -> Path:
    """``folder``/{train,test}/{cat,dog,owl}/NN.jpg: nothing to find."""
    for split, count in (("train", train), ("test", test)):
        for name in CLASSES:
            for i in range(count):
                draw(folder / split / name / f"{i:02d}.jpg", 12 + i)
    return folder


def dirty_folder(folder: Path) -> Path:
    """Three broken images and one too large, a class in test alone, leakage, a twin, two labels, an unused file."""
    clean_folder(folder)
    train, test = folder / "train", folder / "test"
    draw(test / "zebra" / "00.jpg")
    for i in (1, 2):
        (path := train / "cat" / f"{i:02d}.jpg").write_bytes(path.read_bytes()[:300])
    (train / "dog" / "03.jpg").write_text("no image")
    (test / "dog" / "01.jpg").write_bytes((train / "dog" / "05.jpg").read_bytes())
    (train / "owl" / "twin.jpg").write_bytes((train / "owl" / "05.jpg").read_bytes())
    (train / "owl" / "both.jpg").write_bytes((train / "cat" / "07.jpg").read_bytes())
    Image.new("1", (6000, 5000)).save(folder / TOO_LARGE)
    (train / "cat" / "IMG_1.heic").write_bytes(b"    ftypheic")
    return folder

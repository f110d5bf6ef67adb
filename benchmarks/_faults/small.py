"""The smallest run on a folder of images, of a second, which kinds of odd events share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

import dmpo_explore as dx

NAME, BATCH, CLASSES = "mine", 5, ("cat", "dog")
COUNTS = {"train": 20, "val": 5, "test": 5}  # images of a class
MODEL = dx.ModelConfig("test_vit", "random", 32, exits=2, rank=4, bypass_width=8, channels=8)
TRAINING = dx.TrainingConfig(epochs=1, precision="no", batch_size=10, validation_size=10)


@contextmanager
def runs_in(root: Path) -> Iterator[None]:
    """Within it ``root`` is the runs root, and torch takes one thread."""
    from dmpo_explore.utils.torch_tools import one_thread

    with one_thread(), patch.dict(os.environ, DMPO_EXPLORE_RUNS=str(root)):
        yield


def paint(data: Path) -> Path:
    """``data``/SPLIT/CLASS/N.png of noise."""
    chance = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name in CLASSES:
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                noise = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(noise).save(data / split / name / f"{i}.png")
    return data


def small_run(folder: Path) -> dx.Run:
    """A run in ``folder``/runs on the images of ``folder``/data, recorded on val and test."""
    config = dx.Config(dx.DataConfig(str(paint(folder / "data"))), MODEL, TRAINING)
    (folder / "runs").mkdir()
    with runs_in(folder / "runs"):
        run = dx.train(config, NAME, device="cpu")
        for split in ("val", "test"):
            dx.record_run(run, split, device="cpu", batch_size=BATCH)
    return run

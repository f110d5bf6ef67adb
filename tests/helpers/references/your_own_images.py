"""Correct and incorrect answers to the exercises of 07_your_own_images, and its key numbers from the library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import dmpo_explore as dx
from dmpo_explore.course.own_images import make_images


def split_sizes(count: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), count)
        path = str(Path(folder) / "images")
        return {split: len(dx.load_images(path, split)) for split in ("train", "val", "test")}


ANSWERS = {
    1: 2,  # exits after blocks 1, 2, 4 and 8 of 12: 10, 19, 37 and 70 %
    2: "dmpo-explore train --data images --exits 4,8,12 --epochs 1 --no-flip --name three",
    3: lambda a, b: dx.bootstrap_difference(a, b)[1] > 0,
}
INCORRECT = {
    1: 3,
    2: "dmpo-explore train --data images --exits 3 --epochs 1 --name three",
    3: lambda a, b: a.mean() > b.mean(),
}


def numbers() -> dict[str, float | int]:
    config = dx.ModelConfig(exits=(1, 2, 4, 8), image_size=42, weights="random")  # FLOPs do not depend on the weights
    flops = dx.models.measure_flops(dx.build_model(config, 6), dx.models.build_reference(config, 6))
    sizes = split_sizes(200)
    return {
        "training_images": sizes["train"],
        "validation_images": sizes["val"],
        "test_images": sizes["test"],
        "flops_of_exit_1": flops.cumulative[0] / flops.reference,
        "flops_of_exit_4": flops.cumulative[-1] / flops.reference,
    }


SPACE = {"test": SimpleNamespace(flops_fraction=np.array([0.101, 0.193, 0.368, 0.698]))}  # what the solutions read

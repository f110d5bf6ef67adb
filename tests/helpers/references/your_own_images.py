"""Correct and incorrect answers to the exercises of 07_your_own_images, and its key numbers from the library."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dmpo_explore as dx
from dmpo_explore.course.own_images import make_images


def split_sizes(count: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), count)
        path = str(Path(folder) / "images")
        return {split: len(dx.load_images(path, split)) for split in ("train", "val", "test")}


ANSWERS = {
    1: split_sizes(50)["train"],
    2: "dmpo-explore train --data images --exits 4,8,12 --epochs 1 --no-flip --name three",
    3: 64 / 9,
}
INCORRECT = {1: 270, 2: "dmpo-explore train --data images --exits 3 --epochs 1 --name three", 3: 112 / 42}


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

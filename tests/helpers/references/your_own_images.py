"""Right and wrong answers to the exercises of 07_your_own_images, and its key numbers from the library."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dmpo_explore as dx
from own_pictures import make_pictures


def pictures(count: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(make_pictures(Path(folder), count))
        return {split: len(dx.load_images(path, split)) for split in ("train", "val", "test")}


ANSWERS = {
    1: pictures(1000)["train"],
    2: "dmpo-explore train --data pictures --exits 4,8,12 --epochs 1 --name three",
    3: 64 / 9,
}
WRONG = {1: 900, 2: "dmpo-explore train --data pictures --exits 3 --epochs 1 --name three", 3: 112 / 42}


def numbers() -> dict[str, float | int]:
    config = dx.ModelConfig(image_size=42, weights="random")  # costs do not depend on the weights
    cost = dx.models.measure_flops(dx.build_model(config, 10), dx.models.build_reference(config, 10))
    sizes = pictures(400)
    return {
        "training_pictures": sizes["train"],
        "validation_pictures": sizes["val"],
        "test_pictures": sizes["test"],
        "cost_of_exit_1": cost.cumulative[0] / cost.reference,
        "cost_of_exit_4": cost.cumulative[-1] / cost.reference,
    }

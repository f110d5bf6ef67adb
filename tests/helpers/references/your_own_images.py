"""Incorrect answers to the exercises of 07_your_own_images, and its key numbers from the library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dmpo_explore as dx
from dmpo_explore.course.own_images import make_images


def split_sizes(count: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), count)
        path, sizes = str(Path(folder) / "images"), {"train": 960}
        whole = dx.load_images(path, "train", calibration=True)
        assert np.bincount(whole.labels).min() >= 160
        return sizes | {
            split: len(dx.load_images(path, split, train_size=960, calibration=True))
            for split in ("val", "calibration", "test")
        }


def needed_unpaired(a: Any, b: Any, gain: float) -> int:
    """As if the two answered different images."""
    return int(np.ceil(1.96**2 * (a.mean() * (1 - a.mean()) + b.mean() * (1 - b.mean())) / (gain / 100) ** 2))


def by_image(groups: Any, share: float, seed: int) -> Any:
    """Divides images, whatever they show."""
    mask = np.arange(len(groups)) < share * len(groups)
    return np.random.default_rng(seed).permutation(mask)


def unpaired(a: Any, b: Any) -> tuple[float, float, float]:
    """Draws other images for b."""
    one, other = (np.random.default_rng(seed).choice(x, (2000, len(x))).mean(axis=1) for seed, x in enumerate((a, b)))
    low, high = np.quantile(one - other, [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)


def stops_afterwards(model: Any, image: Any, threshold: float) -> tuple[int, int]:
    """The correct class and exit, but all stages have run."""
    chances = torch.stack([output.logits.detach().softmax(dim=-1)[0] for output in model.walk(image[None])])
    reached = chances.max(dim=-1).values >= threshold
    reached[-1] = True
    exit = int(reached.int().argmax())
    return int(chances[exit].argmax()), exit


BUILD_INCORRECT = stops_afterwards
INCORRECT = {1: needed_unpaired, 2: by_image, 3: unpaired}


def numbers() -> dict[str, float | int]:
    config = dx.ModelConfig(exits=(1, 2, 4, 8), image_size=42, weights="random")  # FLOPs do not depend on the weights
    flops = dx.models.measure_flops(dx.build_model(config, 6), dx.models.build_reference(config, 6))
    sizes = split_sizes(900)
    return {
        "training_images": sizes["train"],
        "validation_images": sizes["val"],
        "calibration_images": sizes["calibration"],
        "test_images": sizes["test"],
        "flops_of_exit_1": flops.cumulative[0] / flops.reference,
        "flops_of_exit_4": flops.cumulative[-1] / flops.reference,
    }

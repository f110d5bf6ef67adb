"""Correct and incorrect answers to the exercises of 07_your_own_images, and its key numbers from the library."""

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


def needed(a: Any, b: Any, gain: float) -> int:
    """From the shares of images that only one of the two has correct."""
    more, less = (a & ~b).mean(), (b & ~a).mean()
    return int(np.ceil(1.96**2 * (more + less - (more - less) ** 2) / (gain / 100) ** 2))


def needed_unpaired(a: Any, b: Any, gain: float) -> int:
    """As if the two answered different images."""
    return int(np.ceil(1.96**2 * (a.mean() * (1 - a.mean()) + b.mean() * (1 - b.mean())) / (gain / 100) ** 2))


def grouped(groups: Any, share: float, seed: int) -> Any:
    """The cut of a random order of the groups that comes nearest to the share."""
    names, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    best = np.abs(sizes[order].cumsum() - share * len(groups)).argmin()
    return np.isin(groups, names[order[: best + 1]])


def by_image(groups: Any, share: float, seed: int) -> Any:
    """Divides images, whatever they show."""
    mask = np.arange(len(groups)) < share * len(groups)
    return np.random.default_rng(seed).permutation(mask)


def paired(a: Any, b: Any) -> tuple[float, float, float]:
    """A loop over resamples of the images."""
    dice, found = np.random.default_rng(1), []
    for _ in range(2000):
        rows = dice.choice(len(a), len(a))
        found.append(a[rows].mean() - b[rows].mean())
    low, high = np.quantile(found, [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)


def unpaired(a: Any, b: Any) -> tuple[float, float, float]:
    """Draws other images for b."""
    one, other = (np.random.default_rng(seed).choice(x, (2000, len(x))).mean(axis=1) for seed, x in enumerate((a, b)))
    low, high = np.quantile(one - other, [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)


def stops(model: Any, image: Any, threshold: float) -> tuple[int, int]:
    """Takes outputs by hand."""
    walk, exit = model.walk(image[None]), -1
    probability = torch.zeros(1)
    while exit < 0 or float(probability.max()) < threshold:
        output = next(walk, None)
        if output is None:
            break
        exit, probability = exit + 1, output.logits.detach().softmax(dim=-1)[0]
    return int(probability.argmax()), exit


def stops_afterwards(model: Any, image: Any, threshold: float) -> tuple[int, int]:
    """The correct class and exit, but all stages have run."""
    chances = torch.stack([output.logits.detach().softmax(dim=-1)[0] for output in model.walk(image[None])])
    reached = chances.max(dim=-1).values >= threshold
    reached[-1] = True
    exit = int(reached.int().argmax())
    return int(chances[exit].argmax()), exit


BUILD, BUILD_INCORRECT = stops, stops_afterwards
ANSWERS = {1: needed, 2: grouped, 3: paired}
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

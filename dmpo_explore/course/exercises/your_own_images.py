"""Exercises of 07_your_own_images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import dmpo_explore as dx

from ...utils.torch_seeding import seeded
from . import Lines, exercise, gives


class Counted:
    """A model whose walk counts the stages that were run."""

    def __init__(self, model: Any) -> None:
        self.model, self.n_exits, self.ran = model, model.n_exits, 0

    def walk(self, images: Any) -> Iterator[Any]:
        """As the model's own."""
        for output in self.model.walk(images):
            self.ran += 1
            yield output

    def __call__(self, images: Any) -> Any:
        self.ran += self.n_exits
        return self.model(images)


@exercise
def check_build(answer: Callable[..., tuple[int, int]]) -> Lines:
    """It gives the class at the image's exit, and no stage behind that exit has run."""
    config = dx.ModelConfig("test_vit", "random", 32, exits=3, predictor="linear")
    with seeded(0):
        model = Counted(dx.build_model(config, n_classes=3).eval())
        images = torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        chances = model(images).softmax(dim=-1)  # (6, 3, 3)
    for image, row in zip(images, chances, strict=True):
        confidence = row.max(dim=-1).values
        for threshold in (0.0, *(confidence - 1e-4).tolist(), 1.01):
            exit = next((k for k in range(2) if confidence[k] >= threshold), 2)
            hint = f"class and exit, at the confidences {confidence.numpy().round(3)} and the threshold {threshold:.3f}"
            model.ran = 0
            yield gives(lambda *given: answer(model, *given), (image, threshold), [int(row[exit].argmax()), exit], hint)
            yield model.ran <= exit + 1, f"{model.ran} stages have run, and {exit + 1} are enough: {hint}"


@exercise
def check_1(answer: Callable[[Any, Any, float], int]) -> Lines:
    """Models that agree on most images are distinguished by few images; the number grows with 1 / gain²."""
    dice = np.random.default_rng(0)
    for n, alike in ((400, 0.9), (1000, 0.4)):
        a = dice.uniform(size=n) < 0.8
        b = np.where(dice.uniform(size=n) < alike, a, dice.uniform(size=n) < 0.7)
        for gain in (1.0, 3.0):
            needed, unpaired = ((196 / gain) ** 2 * v for v in ((a.astype(float) - b).var(), a.var() + b.var()))
            mistakes = {
                "that is for two models which answer different images: here both answer the same ones": unpaired,
                "that is with the standard error of these images: take the deviation of a single image": needed / n,
            }
            yield gives(answer, (a, b, gain), needed, f"images for {gain:g} points", mistakes, 0.01 * needed + 1)


@exercise
def check_2(answer: Callable[[Any, float, int], Any]) -> Lines:
    """No object is on both sides: the test split has new objects, and not other views of those in train."""
    dice = np.random.default_rng(0)
    for n_groups, share in ((80, 0.2), (40, 0.5)):
        sizes = np.where(dice.uniform(size=n_groups) < 0.25, 15, dice.integers(1, 4, n_groups))
        groups = dice.permutation(np.repeat(dice.permutation(10 * n_groups)[:n_groups], sizes))
        mask, again, other = (np.asarray(answer(groups.copy(), share, seed)) for seed in (0, 0, 1))
        fits = mask.shape == groups.shape and mask.dtype == bool
        yield fits, f"it returns a mask, bool, one value per image: not {mask.dtype} {mask.shape}"
        both = np.intersect1d(groups[mask], groups[~mask])
        yield not len(both), f"{len(both)} of {n_groups} groups are on both sides"
        near = abs(mask.mean() - share) <= 0.05
        yield near, f"{mask.mean():.0%} of the images are in test, not {share:.0%}: groups differ in size"
        yield (mask == again).all(), "the same seed must give the same mask"
        yield (mask != other).any(), "another seed must give another mask"


@exercise
def check_3(answer: Callable[[Any, Any], tuple[float, float, float]]) -> Lines:
    """Images that both have correct, or both incorrect, tell nothing about the difference: pairing leaves them out."""
    dice = np.random.default_rng(0)
    for n, both, alone, what in ((1000, 0.6, 0.2, "mostly alike"), (600, 0.1, 0.3, "mostly unlike")):
        draw = dice.uniform(size=n)
        a, b = draw < both + alone, (draw < both) | (draw > 0.9)
        points, low, high = dx.bootstrap_difference(a, b, n=100_000)
        tolerance = np.array([1e-6, 1, 1]) * 0.25 * (high - low) / 3.92  # of the standard error
        hint = f"difference, and 95 % interval, of two policies that are {what}: the same images for both?"
        yield gives(answer, (a, b), (points, low, high), hint, tolerance=tolerance)

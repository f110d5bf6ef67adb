"""Exercises of 07_your_own_images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import dmpo_explore as dx

from . import exercise


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
def check_build(answer: Callable[..., tuple[int, int]]) -> str:
    """It gives the class at the image's exit, and no stage behind that exit has run."""
    import torch

    from ...utils.torch_seeding import seeded

    with seeded(0):
        model = dx.build_model(
            dx.ModelConfig("test_vit", "random", 32, exits=3, predictor="linear"), n_classes=3
        ).eval()
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        chances = model(images).softmax(dim=-1)  # (6, 3, 3)
    for image, row in zip(images, chances, strict=True):
        confidence = row.max(dim=-1).values
        for threshold in (0.0, *(confidence - 1e-4).tolist(), 1.01):
            reached = confidence >= threshold
            exit = int(reached.int().argmax()) if reached[:-1].any() else len(confidence) - 1
            counted = Counted(model)
            found = answer(counted, image.clone(), threshold)
            if not isinstance(found, tuple | list) or len(found) != 2:
                return "it returns two whole numbers, the class and the exit"
            confident = f"with confidences {[round(c, 3) for c in confidence.tolist()]} and threshold {threshold:.3f}"
            if int(found[1]) != exit:
                return f"{confident} it stops at exit {int(found[1])}, counted from 0, not at {exit}"
            if int(found[0]) != int(row[exit].argmax()):
                return f"{confident} the class is not that of exit {exit}"
            if counted.ran > exit + 1:
                return f"{confident} {counted.ran} stages have run, and {exit + 1} are enough"
    return ""


@exercise
def check_1(answer: Callable[[Any, Any, float], int]) -> str:
    """Models that agree on most images are distinguished by few images; the number grows with 1 / gain²."""
    dice = np.random.default_rng(0)
    for n, alike in ((400, 0.9), (1000, 0.4)):
        a = dice.uniform(size=n) < 0.8
        b = np.where(dice.uniform(size=n) < alike, a, dice.uniform(size=n) < 0.7)
        one, other = (100 * part.astype(float) for part in (a, b))
        for gain in (1.0, 3.0):
            due = (1.96 * (one - other).std() / gain) ** 2
            found = float(answer(a.copy(), b.copy(), gain))
            if abs(found - (1.96**2 * (one.var() + other.var()) / gain**2)) < 0.01 * due + 1:
                return "that is for two models which answer different images: here both answer the same ones"
            if abs(found - due / n) < 0.01 * due / n + 1:
                return "that is with the standard error of these images: take the deviation of a single image"
            if abs(found - due) > 0.01 * due + 1:
                return f"for {gain:g} points it must be about {due:,.0f}, not {found:,.0f}"
    return ""


@exercise
def check_2(answer: Callable[[Any, float, int], Any]) -> str:
    """No object is on both sides: the test split has new objects, and not other views of those in train."""
    dice = np.random.default_rng(0)
    for n_groups, share in ((80, 0.2), (40, 0.5)):
        sizes = np.where(dice.uniform(size=n_groups) < 0.25, 15, dice.integers(1, 4, n_groups))
        groups = dice.permutation(np.repeat(dice.permutation(10 * n_groups)[:n_groups], sizes))
        masks = [np.asarray(answer(groups.copy(), share, seed)) for seed in (0, 0, 1)]
        for mask in masks:
            if mask.shape != groups.shape or mask.dtype != bool:
                return f"it returns a mask, bool, one value per image: not {mask.dtype} {mask.shape}"
            both = np.intersect1d(groups[mask], groups[~mask])
            if len(both):
                return f"{len(both)} of {n_groups} groups are on both sides"
            if abs(mask.mean() - share) > 0.05:
                return f"{mask.mean():.0%} of the images are in test, not {share:.0%}: groups differ in size"
        if (masks[0] != masks[1]).any():
            return "the same seed must give the same mask"
        if (masks[0] == masks[2]).all():
            return "another seed must give another mask"
    return ""


@exercise
def check_3(answer: Callable[[Any, Any], tuple[float, float, float]]) -> str:
    """Images that both have correct, or both incorrect, tell nothing about the difference: pairing leaves them out."""
    dice = np.random.default_rng(0)
    for n, both, alone, what in ((1000, 0.6, 0.2, "mostly alike"), (600, 0.1, 0.3, "mostly unlike")):
        draw = dice.uniform(size=n)
        a, b = draw < both + alone, (draw < both) | (draw > 0.9)
        points, low, high = dx.bootstrap_difference(a, b, n=100_000)
        found = [float(part) for part in answer(a.copy(), b.copy())]
        if len(found) != 3 or abs(found[0] - points) > 1e-9:
            return f"the first of three numbers is the difference of the accuracies, here {points:+.4f}: not {found}"
        deviation = (high - low) / 3.92
        if max(abs(found[1] - low), abs(found[2] - high)) > 0.25 * deviation:
            wrong = f"{found[1]:+.3f} to {found[2]:+.3f}, and it should be about {low:+.3f} to {high:+.3f}"
            return f"two policies that are {what}: {wrong}. Same images for both? 95 %?"
    return ""

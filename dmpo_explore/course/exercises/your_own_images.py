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
    """Its accuracy is what a policy of this budget has to beat."""
    compute = np.array([0.10, 0.19, 0.37, 0.70])
    cases = [
        ((0.73, 0.83, 0.79, 0.83), 0.25, 2, "only two exits are within 25 %"),
        ((0.73, 0.83, 0.79, 0.85), 0.40, 2, "exit 3 is within 40 %, and less accurate than exit 2"),
        ((0.80, 0.80, 0.79, 0.85), 0.37, 1, "exits 1 and 2 are equally accurate: exit 1 is cheaper"),
        ((0.70, 0.80, 0.79, 0.85), 1.00, 4, "all exits are within 100 %, and exit 4 is the most accurate"),
    ]
    for accuracy, budget, expected, why in cases:
        if (got := int(answer(compute.copy(), np.array(accuracy), budget))) != expected:
            return f"it returns {got}. With accuracies {accuracy}, {why}."
    return ""


@exercise
def check_2(answer: Callable[[Any, Any, Any], Any]) -> str:
    """A baseline of three lines. Compare it with the others on your images."""
    random = np.random.default_rng(0)
    for names, width in (((0, 1, 2), 5), ((3, 7, 8, 20), 12)):
        centres = random.normal(size=(len(names), width))
        labels = np.array(names)[np.arange(60) % len(names)]
        labels = np.append(labels, np.repeat(names[0], 40))  # the first class has more images
        spread = np.where(labels == names[0], 3.0, 1.0)[:, None]
        features = centres[np.searchsorted(names, labels)] + spread * random.normal(size=(len(labels), width))
        others = random.normal(size=(50, width))
        means = np.stack([features[labels == name].mean(axis=0) for name in names])
        expected = np.array(names)[((others[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]
        found = np.asarray(answer(features.copy(), labels.copy(), others.copy()))
        if found.shape != expected.shape:
            return f"give one label for each of the {len(others)} others: not {found.shape}"
        if (found != expected).any():
            return (
                f"of {len(others)} others {(found != expected).sum()} get another label than that of the nearest mean"
            )
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

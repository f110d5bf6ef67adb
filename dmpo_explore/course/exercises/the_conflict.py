"""Checks of 01_the_conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: type[Any]) -> str:
    """Its exits read their own stages, and its loss is the library's `weighted_loss`, to 1e-6."""
    import torch

    for at, weights in (((1, 5), (0.5, 2.0)), (range(6), (1.0, 0.0, 3.0, 1.0, 1.0, 0.25))):
        torch.manual_seed(0)
        net = answer(at).double()
        means: dict[int, Any] = {}
        for k, stage in enumerate(net.stages):
            stage.register_forward_hook(lambda _m, _i, x, k=k, to=means: to.update({k: x.mean(dim=(2, 3))}))
        images, labels = torch.randn(8, 1, 14, 14, dtype=torch.float64), torch.arange(8)
        logits = net(images)
        if not isinstance(logits, torch.Tensor):
            return "`forward` does not return logits yet"
        if tuple(logits.shape) != (8, len(at), 10):
            return f"with exits after the stages {tuple(at)} logits are (B, {len(at)}, 10), not {tuple(logits.shape)}"
        expected = torch.stack([exit(means[k]) for exit, k in zip(net.exits, at, strict=True)], dim=1)
        if not torch.allclose(logits, expected, atol=1e-6, rtol=0):
            return "the exit of stage k reads the mean over height and width of what stage k gives"
        first, trunk = logits[:, 0].square().sum(), net.stages[0][0].weight
        (slope,) = torch.autograd.grad(first, trunk, retain_graph=True, allow_unused=True)
        if slope is None or not slope.abs().sum():
            return "no gradient comes from the first exit to the trunk: do not detach"
        loss = net.loss(images, labels, weights)
        if not torch.allclose(loss, dx.training.weighted_loss(logits, labels, weights)[0], atol=1e-6, rtol=0):
            return "`loss` is a sum over exits: weight times the mean cross-entropy of that exit"
    return ""


@exercise
def check_1(answer: Callable[[int, int], Any]) -> str:
    """Behind a stage all exits count alike, and their factors sum to 1: no stage receives more than another."""
    for n_exits in (2, 3, 6):
        for stage in range(1, n_exits + 1):
            given = [float(factor) for factor in answer(n_exits, stage)]
            if len(given) != n_exits:
                return f"with {n_exits} exits there are {n_exits} factors, not {len(given)}"
            due = [0.0 if exit < stage else 1 / (n_exits - stage + 1) for exit in range(1, n_exits + 1)]
            wrong = [k for k in range(n_exits) if abs(given[k] - due[k]) > 1e-6]
            if wrong:
                return f"of {n_exits} exits, number {wrong[0] + 1} reaches stage {stage} with another factor"
    return ""


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> str:
    """What is left of the first gradient no longer undoes the second one's step."""
    import torch

    first, second = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([-1.0, 1.0, 2.0])
    if not torch.equal(answer(-first, second), -first):
        return "gradients that agree are to stay as they are"
    left = answer(first, second)
    if left @ second < -1e-5:
        return "the result still points against the second gradient"
    expected = first - (first @ second) / (second @ second) * second
    return "" if torch.allclose(left, expected, atol=1e-5) else "only the part along the second gradient is to go"


@exercise
def check_3(answer: Callable[[Any, Any, Any, float], float]) -> str:
    """It predicts what scikit-learn's `RidgeClassifier` predicts, and is tested on images that did not fit it."""
    for seed, names in enumerate(((0, 1, 2), (3, 7, 8, 9))):
        dice = np.random.default_rng(seed)
        labels = np.array(names)[
            np.minimum(dice.integers(2 * len(names), size=160), len(names) - 1)
        ]  # the last is half
        centres = dice.normal(size=(10, 200))
        features = 3 + (centres[labels] + 6 * dice.normal(size=(160, 200))) * dice.uniform(0.1, 9, 200)
        fitted = np.arange(160) < 80
        features[~fitted] += 2  # other images have another mean
        probe = make_pipeline(StandardScaler(), RidgeClassifier(30.0)).fit(features[fitted], labels[fitted])
        expected, on_all = probe.score(features[~fitted], labels[~fitted]), probe.score(features, labels)
        found = float(answer(features.copy(), labels.copy(), fitted.copy(), 30.0))
        if abs(found - on_all) < 1e-6:
            return "it is tested on all images: those that it was fitted on do not count"
        if abs(found - expected) > 1e-6:
            return f"on 80 held-out images of {len(names)} classes yours has {found:.1%}, scikit-learn's {expected:.1%}"
    return ""

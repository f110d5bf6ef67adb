"""Exercises of 01_the_conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx

from ...utils.torch_seeding import seeded
from ..small_cnn import EarlyExitCNN
from . import Lines, exercise, gives, same_weights


@exercise
def check_build(answer: type[Any]) -> Lines:
    """Its exits read their own stages, and its loss is the library's `weighted_loss`, to 1e-6."""
    for at, weights in (((1, 5), (0.5, 2.0)), (range(6), (1.0, 0.0, 3.0, 1.0, 1.0, 0.25))):
        with seeded(0):
            images, labels = torch.randn(8, 1, 14, 14, dtype=torch.float64), torch.arange(8)
            theirs, ours = EarlyExitCNN(at).double(), answer(at).double()
        yield from same_weights(ours.state_dict(), theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        logits = theirs(images)
        yield gives(ours, (images,), logits, "the exit of stage k reads the mean over height and width of its maps")
        trunk = torch.autograd.grad(ours(images)[:, 0].sum(), ours.stages[0][0].weight, allow_unused=True)[0]
        yield trunk is not None, "no gradient comes from the first exit to the trunk: do not detach"
        loss, _ = dx.training.weighted_loss(logits, labels, weights)
        hint = "`loss` is a sum over exits: weight times the mean cross-entropy of that exit"
        yield gives(ours.loss, (images, labels, weights), loss, hint)


@exercise
def check_1(answer: Callable[[int, int], Any]) -> Lines:
    """Behind a stage all exits count alike, and their factors sum to 1: no stage receives more than another."""
    yield gives(answer, (2, 1), (1 / 2, 1 / 2))
    yield gives(answer, (3, 1), (1 / 3, 1 / 3, 1 / 3))
    yield gives(answer, (3, 3), (0.0, 0.0, 1.0))
    yield gives(answer, (6, 3), (0, 0, 1 / 4, 1 / 4, 1 / 4, 1 / 4))


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> Lines:
    """What is left of the first gradient no longer undoes the second one's step."""
    first, second = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([-1.0, 1.0, 2.0])
    yield gives(answer, (-first, second), -first, "gradients that agree are to stay as they are")
    yield gives(answer, (first, second), first + second / 2, "the part along the second gradient is to go, no more")


@exercise
def check_3(answer: Callable[[Any, Any, Any, float], float]) -> Lines:
    """It predicts what scikit-learn's `RidgeClassifier` predicts, and is tested on images that did not fit it."""
    for seed, names in enumerate(((0, 0, 1, 2), (3, 7, 8, 9, 9, 9))):
        dice = np.random.default_rng(seed)
        labels = dice.choice(names, 160)
        centres = dice.normal(size=(10, 200))
        features = 3 + (centres[labels] + 6 * dice.normal(size=(160, 200))) * dice.uniform(0.1, 9, 200)
        fitted = np.arange(160) < 80
        features[~fitted] += 2  # other images have another mean
        probe = make_pipeline(StandardScaler(), RidgeClassifier(30.0)).fit(features[fitted], labels[fitted])
        expected, on_all = probe.score(features[~fitted], labels[~fitted]), probe.score(features, labels)
        mistakes = {"it is tested on all images: those that it was fitted on do not count": on_all}
        hint = "the accuracy of scikit-learn's ridge classifier on the 80 images that did not fit it"
        yield gives(answer, (features, labels, fitted, 30.0), expected, hint, mistakes)

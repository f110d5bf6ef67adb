"""Exercises of 04_phase_schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import mul
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import dmpo_explore as dx

from . import Lines, exercise, gives

WEIGHTS = (0.5, 2.0), (1.0, 0.0, 3.0, 0.25)  # of two and of four exits


@exercise
def check_build(answer: Callable[..., Any]) -> Lines:
    """Its value and its gradients are those of the library's `weighted_loss` with sigmoid coupling, to 1e-6."""
    dice = torch.Generator().manual_seed(0)
    for weights in WEIGHTS:
        logits = 2 * torch.randn(20, len(weights), 10, generator=dice, dtype=torch.float64)
        labels = torch.randint(10, (20,), generator=dice)
        logits.requires_grad_()
        due, _ = dx.training.weighted_loss(logits, labels, weights, coupling="sigmoid")
        plain, _ = dx.training.weighted_loss(logits, labels, weights)
        means = [F.cross_entropy(logits[:, k], labels) for k in range(len(weights))]
        late = [means[0], *(before.sigmoid() * mean for before, mean in pairwise(means))]
        mistakes = {
            "that is the loss without coupling": plain,
            "multiply image by image, and take the mean of the products": sum(map(mul, weights, late)),
        }
        yield gives(answer, (logits, labels, weights), due, f"a scalar tensor, with {len(weights)} exits", mistakes)
        mine, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (answer(logits, labels, weights), due))
        yield torch.allclose(mine, theirs, atol=1e-6), "the value is correct, the gradient is not: do not detach σ"


@exercise
def check_1(answer: Callable[[list[float]], Sequence[float]]) -> Lines:
    """The steps are those of `torch.optim.Adam`. A factor of all gradients cancels, one that changes does not."""
    for gradients in ([0.02, 0.02, 0.02], [1.0, -0.5, 2.0, 0.25], [0.01, 0.01, 1.5, 1.5, 1.5]):
        weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimiser, places = torch.optim.Adam([weight], lr=1.0, eps=1e-300), [0.0]
        for gradient in gradients:
            weight.grad = torch.tensor(gradient, dtype=torch.float64)
            optimiser.step()
            places.append(weight.item())
        yield gives(answer, (gradients,), -np.diff(places))  # down the gradient


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> Lines:
    """Coupling moves weight from the deep exits to the early ones, most where the next exit is still wrong."""
    dice = torch.Generator().manual_seed(0)
    for weights in WEIGHTS:
        c = torch.rand(6, len(weights), generator=dice, dtype=torch.float64, requires_grad=True)
        factors = torch.cat((torch.ones(6, 1), c[:, :-1].sigmoid()), dim=1) * torch.tensor(weights)
        (due,) = torch.autograd.grad((factors * c).sum(), c)
        mistakes = {"that is exit k as the loss of its own; it is inside the next exit's sigmoid, too": factors}
        yield gives(answer, (c.detach().numpy(), list(weights)), due, f"λ = {weights}, of [image, exit]", mistakes)


@exercise
def check_3(answer: Callable[[int, int, int], Sequence[float]]) -> Lines:
    """A two-phase schedule. Whether it is a good one, only training shows."""
    for n_exits, epochs in ((2, 8), (4, 20), (7, 8), (7, 20)):
        weights = np.array([answer(e, epochs, n_exits) for e in range(epochs)], float)
        yield weights.shape == (epochs, n_exits), f"for {n_exits} exits it must return {n_exits} weights"
        fits = weights.min() >= 0 and np.allclose(weights.sum(axis=1), 3)
        yield fits, f"for {n_exits} exits the weights must be from 0 and sum to 3 in every epoch"
        first, second = weights[: epochs // 2].mean(axis=0), weights[epochs // 2 :].mean(axis=0)
        led = f"must lead on average: {epochs} epochs, {n_exits} exits, first half {first}, second half {second}"
        yield first[0] < first[-1], f"over the first half the last exit {led}"
        yield second[0] > second[-1], f"over the second half the first exit {led}"

"""Exercises of 04_phase_schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: Callable[..., Any]) -> str:
    """Its value and its gradients are those of the library's `weighted_loss` with sigmoid coupling, to 1e-6."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    for K, weights in ((2, (0.5, 2.0)), (4, (1.0, 0.0, 3.0, 0.25))):
        logits = (2 * torch.randn(20, K, 10, dtype=torch.float64)).requires_grad_()
        labels = torch.randint(10, (20,))
        found = answer(logits, labels, weights)
        if not isinstance(found, torch.Tensor) or found.ndim:
            return "it returns a scalar tensor"
        due, _ = dx.training.weighted_loss(logits, labels, weights, coupling="sigmoid")
        plain, _ = dx.training.weighted_loss(logits, labels, weights)
        if torch.allclose(found, plain, atol=1e-6, rtol=0):
            return "that is the loss without coupling"
        each = torch.stack([F.cross_entropy(logits[:, k], labels, reduction="none") for k in range(K)], dim=1)
        means = each.mean(dim=0)
        late = weights[0] * means[0] + sum(weights[k] * means[k - 1].sigmoid() * means[k] for k in range(1, K))
        if torch.allclose(found, late, atol=1e-6, rtol=0):
            return "multiply image by image, and take the mean of the products"
        if not torch.allclose(found, due, atol=1e-6, rtol=0):
            return f"with {K} exits it is {float(found):.4f}, and it should be {float(due):.4f}"
        mine, theirs = (torch.autograd.grad(loss, logits, allow_unused=True)[0] for loss in (found, due))
        if mine is None or not torch.allclose(mine, theirs, atol=1e-6, rtol=0):
            return "the value is correct, the gradient is not: do not detach the sigmoid"
    return ""


@exercise
def check_1(answer: Callable[[list[float]], Sequence[float]]) -> str:
    """The steps are those of `torch.optim.Adam`. A factor of all gradients cancels, one that changes does not."""
    import torch

    for gradients in ([0.02, 0.02, 0.02], [1.0, -0.5, 2.0, 0.25], [0.01, 0.01, 1.5, 1.5, 1.5]):
        weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimiser, places = torch.optim.Adam([weight], lr=1.0, eps=1e-300), [0.0]
        for gradient in gradients:
            weight.grad = torch.tensor(gradient, dtype=torch.float64)
            optimiser.step()
            places.append(weight.item())
        steps = -np.diff(places)  # down the gradient
        found = np.asarray(answer(list(gradients)), np.float64)
        if found.shape != steps.shape:
            return f"for {len(gradients)} gradients it must return {len(gradients)} steps."
        if not np.allclose(found, steps, atol=1e-6, rtol=0):
            return f"for the gradients {gradients} step {int(np.abs(found - steps).argmax()) + 1} is another."
    return ""


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> str:
    """Coupling moves weight from the deep exits to the early ones, most where the next exit is still wrong."""
    import torch

    dice = np.random.default_rng(0)
    for K, weights in ((2, (0.5, 2.0)), (4, (1.0, 0.0, 3.0, 0.25))):
        c = dice.exponential(size=(6, K))
        given = torch.tensor(c, requires_grad=True)
        losses = torch.cat((given[:, :1], given[:, :-1].sigmoid() * given[:, 1:]), dim=1)
        loss = (losses * torch.tensor(weights)).sum()
        due = torch.autograd.grad(loss, given)[0].numpy()
        own = np.array(weights) * np.concatenate((np.ones((6, 1)), 1 / (1 + np.exp(-c[:, :-1]))), axis=1)
        found = np.asarray(answer(c.copy(), list(weights)), float)
        if found.shape != c.shape:
            return f"for {c.shape} losses it returns {c.shape} numbers, not {found.shape}"
        if np.allclose(found, own, atol=1e-6):
            return "that is exit k as the loss of its own; it is inside the next exit's sigmoid, too"
        if not np.allclose(found, due, atol=1e-6):
            image, exit = np.unravel_index(np.abs(found - due).argmax(), c.shape)
            return f"c = {c[image].round(2)}, λ = {weights}: exit {exit + 1} counts {due[image, exit]:.3f}"
    return ""


@exercise
def check_3(answer: Callable[[int, int, int], Sequence[float]]) -> str:
    """A two-phase schedule. Whether it is a good one, only training shows."""
    for n_exits in (2, 4, 7):
        for epochs in (8, 20):
            weights = np.array([answer(e, epochs, n_exits) for e in range(epochs)], float)
            if weights.shape != (epochs, n_exits):
                return f"for {n_exits} exits it must return {n_exits} weights."
            if weights.min() < 0 or not np.allclose(weights.sum(axis=1), 3):
                return f"for {n_exits} exits the weights must be from 0 and sum to 3 in every epoch."
            for half, leader, other in ((slice(epochs // 2), -1, 0), (slice(epochs // 2, None), 0, -1)):
                mean = weights[half].mean(axis=0)
                if not mean[leader] > mean[other]:
                    which = "first half the last" if leader else "second half the first"
                    values = f"{mean[0]:.2f} of the first and {mean[-1]:.2f} of the last"
                    return f"over the {which} exit must lead on average: {epochs} epochs, {n_exits} exits, {values}."
    return ""

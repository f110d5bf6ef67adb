"""Exercises of 04_phase_schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: Callable[..., None]) -> str:
    """Five steps come to the same weights as with the library's `weighted_loss`, to 1e-6."""
    import torch

    from .. import small_cnn

    torch.manual_seed(0)
    theirs, ours = (small_cnn.EarlyExitCNN([0, 1]).double() for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    first = next(ours.exits.parameters())
    start = first.detach().clone()
    one, other = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (theirs, ours))
    for weights in ((0.0, 2.0), (0.5, 1.5), (1.0, 1.0), (1.5, 0.5), (3.0, 0.25)):
        images, labels = torch.randn(20, 1, 6, 6, dtype=torch.float64), torch.randint(10, (20,))
        one.zero_grad()
        dx.training.weighted_loss(theirs(images), labels, weights)[0].backward()  # type: ignore[no-untyped-call]
        one.step()
        answer(ours, images, labels, weights, other)
    if torch.equal(first, start):
        return "no weight has changed: backward, then a step of the optimiser"
    if all(
        torch.allclose(a, b, atol=1e-6, rtol=0) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)
    ):
        return ""
    return "other weights than the library's: zero_grad in every step; the sum of weight times cross-entropy by exit"


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
def check_2(answer: Callable[[Sequence[float], Sequence[float]], float]) -> str:
    """Where exit 1 leads far at the end, the first phase has to be long."""
    release = (0.01, 0.01, 1.0, 2.0), (1.5, 1.0, 0.2475, 0.2675)
    for start, end in (release, ((0.5, 3.0), (2.0, 1.0)), ((0.0, 1.0, 1.0), (1.0, 1.0, 0.0))):
        ratio = float(answer(list(start), list(end)))
        first, last = (ratio * start[k] + (1 - ratio) * end[k] for k in (0, -1))
        if not 0 <= ratio <= 1 or abs(first - last) > 1e-3:
            return f"from {start} to {end} a ratio of {ratio:.3f} gives {first:.3f} and {last:.3f} on average."
    return ""


@exercise
def check_3(answer: Callable[[int, int, int], Sequence[float]]) -> str:
    """A two-phase schedule. Whether it is a good one, only training shows."""
    for n_exits in (2, 4, 7):
        weights = np.array([answer(e, 10, n_exits) for e in range(10)], float)
        if weights.shape != (10, n_exits):
            return f"for {n_exits} exits it must return {n_exits} weights."
        if weights.min() < 0 or not np.allclose(weights.sum(axis=1), 3):
            return f"for {n_exits} exits the weights must be from 0 and sum to 3 in every epoch."
        if not (weights[0, -1] > weights[0, 0] and weights[-1, 0] > weights[-1, -1]):
            return f"for {n_exits} exits the deep one must lead at first and the early one at last."
    return ""

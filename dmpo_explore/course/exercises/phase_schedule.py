"""Exercises of 04_phase_schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import dmpo_explore as dx

from . import exercise

EPOCHS = 100


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
def check_1(answer: int) -> str:
    """Geometric steps keep a small weight small for long: later than with straight lines."""
    weights = np.array([dx.training.loss_weights("exponential", e, EPOCHS, 4) for e in range(EPOCHS)])
    above = weights[:, 0] > weights[:, 3]
    return "" if int(answer) == above.argmax() + 1 else f"there λ_1 is {weights[int(answer) - 1, 0]:.2f}; look around."


@exercise
def check_2(answer: float) -> str:
    """The phase ratio is a trade: what the late phase gives to exit 1, the early one took from it."""
    ratio = float(answer)
    mean = np.mean([dx.training.loss_weights("switch", e, EPOCHS, 4, phase_ratio=ratio)[0] for e in range(EPOCHS)])
    return "" if abs(mean - 1) <= 0.01 else f"with {ratio:g} it is {mean:.3f} on average."


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

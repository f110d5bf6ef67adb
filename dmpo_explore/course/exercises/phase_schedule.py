"""Exercises of 04_phase_schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import dmpo_explore as dx

from . import exercise

EPOCHS = 100


@exercise
def check_build(answer: Callable[..., None]) -> str:
    """Every epoch has its own weights, and the trained network is that of the reference, to 1e-6."""
    import torch

    from dmpo_explore.course import small_cnn

    asked: list[tuple[int, int, int]] = []

    def schedule(epoch: int, epochs: int, n_exits: int) -> list[float]:
        asked.append((epoch, epochs, n_exits))
        return [epoch / epochs, 1.0]

    nets = []
    for train in (small_cnn.train, answer):
        torch.manual_seed(0)
        net = small_cnn.EarlyExitCNN([0, 1]).double()
        pixels, labels = torch.randn(120, 1, 6, 6, dtype=torch.float64), torch.arange(120) % 3
        first = net.exits[0].weight
        start, optimiser = first.detach().clone(), torch.optim.SGD(net.parameters(), lr=0.5)
        asked.clear()
        train(net, small_cnn.Images(pixels, labels), schedule, optimiser, 3)
        nets.append(first)
    if set(asked) != {(epoch, 3, 2) for epoch in range(3)}:
        return f"schedule is called with (epoch, epochs, exits): {[(e, 3, 2) for e in range(3)]}, not {sorted(set(asked))}"
    if torch.equal(nets[1], start):
        return "no weight has changed: backward, then a step of the optimiser"
    if torch.allclose(nets[0], nets[1], atol=1e-6, rtol=0):
        return ""
    return "other weights than the reference's: zero_grad in every batch; the sum of weight times cross-entropy by exit"


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

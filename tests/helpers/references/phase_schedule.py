"""Correct and incorrect answers to the exercises of 04_phase_schedule, and its key numbers from the library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

import dmpo_explore as dx
from dmpo_explore.course import small_cnn
from dmpo_explore.training.schedules import END, START


def crossing(schedule: str) -> int:
    """First epoch, counted from 1, in which the first of four exits outweighs the last."""
    weights = [dx.training.loss_weights(schedule, e, 100, 4) for e in range(100)]
    return next(e for e, w in enumerate(weights, start=1) if w[0] > w[3])


def hand_over(epoch: int, epochs: int, n_exits: int) -> np.ndarray:
    t = epoch / (epochs - 1)
    weights = (1 - t) * dx.training.resample(START, n_exits) + t * dx.training.resample(END, n_exits)
    return 3 * weights / weights.sum()


def adam(gradients: Sequence[float]) -> list[float]:
    """Adam's steps by weighted means instead of recursions."""
    steps = []
    for t in range(1, len(gradients) + 1):
        age, past = np.arange(t)[::-1], np.array(gradients[:t])
        first, second = 0.9**age, 0.999**age
        steps.append(float((first @ past / first.sum()) / np.sqrt(second @ past**2 / second.sum())))
    return steps


def uncorrected(gradients: Sequence[float]) -> list[float]:
    """Without the corrections for m and v that start at 0."""
    m = v = 0.0
    steps = []
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        steps.append(m / v**0.5)
    return steps


def equal_means(start: Sequence[float], end: Sequence[float]) -> float:
    """The root of a linear function of the ratio."""
    (a, b), (c, d) = (start[0], start[-1]), (end[0], end[-1])
    return (d - c) / (a - b + d - c)


ANSWERS = {1: adam, 2: equal_means, 3: hand_over}
INCORRECT = {1: uncorrected, 2: lambda start, end: 0.5, 3: lambda epoch, epochs, n_exits: [3 / n_exits] * n_exits}


def numbers() -> dict[str, float | int]:
    return {
        "exit_1_at_the_start": START[0],
        "exit_1_at_the_end": END[0],
        "exit_4_at_the_start": START[3],
        "exit_4_at_the_end": END[3],
        "crossing_epoch": crossing("linear"),
        "sum_at_the_end": sum(END),
    }


def step(
    net: small_cnn.EarlyExitCNN, images: Tensor, labels: Tensor, weights: Sequence[float], optimiser: Optimizer
) -> None:
    """One step of training."""
    optimiser.zero_grad()
    added_up(net, images, labels, weights, optimiser)


def added_up(
    net: small_cnn.EarlyExitCNN, images: Tensor, labels: Tensor, weights: Sequence[float], optimiser: Optimizer
) -> None:
    """The gradients of all steps so far add up."""
    net.loss(images, labels, weights).backward()
    optimiser.step()


BUILD, BUILD_INCORRECT = step, added_up

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


ANSWERS = {1: crossing("exponential"), 2: 0.34, 3: hand_over}
INCORRECT = {1: crossing("linear"), 2: 0.5, 3: lambda epoch, epochs, n_exits: [3 / n_exits] * n_exits}


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

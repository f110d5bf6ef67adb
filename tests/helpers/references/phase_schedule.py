"""Incorrect answers to the exercises of 04_phase_schedule, and its key numbers from the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dmpo_explore as dx
from dmpo_explore.training.losses import cross_entropies
from dmpo_explore.training.schedules import END, START


def crossing(schedule: str) -> int:
    """First epoch, counted from 1, in which the first of four exits outweighs the last."""
    weights = [dx.training.loss_weights(schedule, e, 100, 4) for e in range(100)]
    return next(e for e, w in enumerate(weights, start=1) if w[0] > w[3])


def uncorrected(gradients: Sequence[float]) -> list[float]:
    """Without the corrections for m and v that start at 0."""
    m = v = 0.0
    steps = []
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        steps.append(m / v**0.5)
    return steps


def counts_detached(c: Any, weights: Sequence[float]) -> Any:
    """As the loss of its own exit alone."""
    factors = np.concatenate((np.ones((len(c), 1)), 1 / (1 + np.exp(-c[:, :-1]))), axis=1)
    return factors * np.array(weights)


def last_minute(epoch: int, epochs: int, n_exits: int) -> list[float]:
    """All weight on the last exit until the final epoch."""
    return [3.0, *[0.0] * (n_exits - 1)][:: 1 if epoch == epochs - 1 else -1]


INCORRECT = {1: uncorrected, 2: counts_detached, 3: last_minute}


def numbers() -> dict[str, float | int]:
    return {
        "exit_1_at_the_start": START[0],
        "exit_1_at_the_end": END[0],
        "exit_4_at_the_start": START[3],
        "exit_4_at_the_end": END[3],
        "crossing_epoch": crossing("linear"),
        "sum_at_the_end": sum(END),
        "share_of_exit_1": (START[0] + END[0]) / (sum(START) + sum(END)),
    }


def detached(logits: Tensor, labels: Tensor, weights: Sequence[float]) -> Tensor:
    """No gradient passes through the sigmoid."""
    losses = cross_entropies(logits, labels)
    factors = torch.cat((torch.ones_like(losses[:, :1]), losses[:, :-1].detach().sigmoid()), dim=1)
    return ((factors * losses).mean(dim=0) * torch.as_tensor(weights, dtype=losses.dtype)).sum()


BUILD_INCORRECT = detached

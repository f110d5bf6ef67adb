"""Online thresholds played on a record: a stream of images, one after another, without labels.

In: a `ThresholdBandit`, an `ExitRecord` and an order of its images. Out: the exit and the threshold of every image, and
the regret. Arrays only, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...records.record import ExitRecord
from ...utils.typing import Floats, Ints, at_exits
from .bandit import BanditState, ThresholdBandit, confidence_at


@dataclass(frozen=True, eq=False)
class OnlineThresholds:
    """Outcome of a bandit on a stream of B images; everything but ``exits`` is in the stream's order.

    Args:
        exits: (B,) 0-based exit of every image, in the record's order.
        order: (B,) rows of the record as they came. arms: (B,) which threshold each used; thresholds: (B,) itself.
        regret: (B,) cumulative, against the single threshold with the largest total reward in hindsight.
        state: after the last image, from which another stream can continue.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
        >>> run = dx.load_run("demo")
        >>> calibration = run.record("calibration").subset(range(500))
        >>> bandit = fit_bandit(calibration, dx.fit_policy(calibration, flops=0.30))
        >>> found = dx.online_thresholds(calibration, bandit)
        >>> isinstance(found, OnlineThresholds), found.state.images
        (True, 500.0)
    """

    exits: Ints
    order: Ints
    arms: Ints
    thresholds: Floats
    regret: Floats
    state: BanditState


def online_thresholds(
    record: ExitRecord, bandit: ThresholdBandit, order: npt.ArrayLike | None = None, state: BanditState | None = None
) -> OnlineThresholds:
    """Play a bandit on a record's images, one after another. Labels are not read.

    An image's exit depends on the images before it and on its own scores up to that exit, on nothing else.

    Args:
        order: (B,) rows of the record, each once; default: as they are recorded.
        state: after earlier images, which stays as it is; default: before the first one.

    Raises:
        ValueError: an order that is not a permutation of the rows, or a record with another number of exits.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.online_thresholds import fit_bandit
        >>> run = dx.load_run("fashion")
        >>> calibration, test = run.record("calibration"), run.record("test")
        >>> bandit = fit_bandit(calibration, dx.fit_policy(calibration, flops=0.30))
        >>> found = online_thresholds(test, bandit)
        >>> found.exits.shape, round(float(found.thresholds[-5000:].mean()), 2)
        ((10000,), 0.75)
    """
    rows = np.arange(record.n_images) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(rows, axis=None), np.arange(record.n_images)):
        raise ValueError(f"order must hold each row of the record once, 0 to {record.n_images - 1}")
    exits, rewards = _arms(record, bandit)
    state = state.copy() if state else bandit.start()
    arms = _play(bandit, rewards[rows], state)
    taken = np.empty(record.n_images, np.int64)
    taken[rows] = exits[rows, arms]
    lost = rewards[rows][:, rewards.sum(axis=0).argmax()] - rewards[rows, arms]
    return OnlineThresholds(taken, rows, arms, bandit.thresholds[arms], lost.cumsum(), state)


def _arms(record: ExitRecord, bandit: ThresholdBandit) -> tuple[Ints, Floats]:
    """(B, A) exits and rewards of every image at every threshold."""
    if record.n_exits != len(bandit.compute):
        raise ValueError(f"the bandit is of a model with {len(bandit.compute)} exits, the record has {record.n_exits}")
    exits = bandit.arm_exits(record)
    return exits, bandit.rewards(exits, at_exits(confidence_at(record, bandit.policies[0]), exits.T).T)


def _play(bandit: ThresholdBandit, rewards: Floats, state: BanditState) -> Ints:
    """(B,) arm of every image of a stream, (B, A) rewards; ``state`` goes along."""
    arms = []
    for row in rewards.tolist():
        arm = bandit.choose(state)
        bandit.update(state, arm, row[: arm + 1] if bandit.lower else row[arm : arm + 1])
        arms.append(arm)
    return np.array(arms, np.int64)

"""Online thresholds: a bandit that chooses a threshold for every image, without labels (UAT, arXiv 2509.23666).

In: the exit that each image took, and its confidence there. Out: the frozen policy for the next image. UAT stands for
"UCB-based adaptive thresholds": the arms are thresholds; the reward of an image is its confidence times a reliability
g, less a penalty on late exits; the arm with the largest upper confidence bound is used.

Written from the paper's abstract and a review, without its full text or code. Ours are therefore: g, a logistic
regression of "correct" on the confidence's log-odds at every exit (the paper trains a network g with the model); the
penalty, per share of compute, at which a fitted policy's threshold is the best arm; the arms, evenly spaced in compute;
UCB1 (Auer et al. 2002) with a small exploration; ``lower``: an image also shows the reward of every lower threshold,
as it passed the exits before; and ``memory``, the discounted UCB of Garivier & Moulines (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ...policies.base import Policy, not_deployable
from ...policies.learned import learn_gate, log_odds
from ...records.record import ExitRecord
from ...utils.typing import Array, Floats, Ints, at_exits


@dataclass
class BanditState:
    """What a bandit has seen: images in all, and for each arm how many and the sum of their rewards.

    Example:
        >>> later = (state := BanditState(1, [1.0, 0.0], [0.8, 0.0])).copy()
        >>> later.pulls[1] += 1
        >>> state.pulls  # a copy is independent
        [1.0, 0.0]
    """

    images: float
    pulls: list[float]
    totals: list[float] = field(repr=False)

    def copy(self) -> BanditState:
        """An independent copy."""
        return BanditState(self.images, list(self.pulls), list(self.totals))


@dataclass(frozen=True)
class ThresholdBandit:
    """A bandit over frozen policies that differ in the threshold alone.

    Args:
        policies: the arms, A of them, from the cheapest threshold to the dearest.
        reliability: (K, 2) slope and intercept of g at every exit. compute: (K,) share of the reference's FLOPs.
        penalty: of a share of 1. exploration: factor of the confidence bound; UCB1 has 1.
        lower: whether an image also counts for the thresholds below the one used.
        memory: images until a reward counts 1/e; None: all count alike.

    Raises:
        ValueError: no arm, a negative penalty or exploration, or a memory below 1.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> bandit = fit_bandit(run.record("calibration"), dx.fit_policy(run.record("calibration"), flops=0.3))
        >>> state = bandit.start()
        >>> arm = bandit.choose(state)  # an unused one first, from the dearest on
        >>> bandit.policies[arm].thresholds
        (1.01,)
        >>> bandit.update(state, arm, [float(bandit.rewards(5, 0.99))])  # the image exited at the last exit
        >>> bandit.choose(state) == arm - 1
        True
    """

    policies: tuple[Policy, ...]
    reliability: tuple[tuple[float, float], ...]
    compute: tuple[float, ...]
    penalty: float
    exploration: float = 0.1
    lower: bool = True
    memory: int | None = None

    def __post_init__(self) -> None:
        for name in ("penalty", "exploration"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}={value!r} must be a finite number from 0")
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory={self.memory!r} must be at least 1 image, or None")

    @property
    def thresholds(self) -> Floats:
        """(A,) the arms' thresholds."""
        return np.array([policy.thresholds[0] for policy in self.policies])

    def rewards(self, exits: npt.ArrayLike, confidence: npt.ArrayLike) -> Floats:
        """Rewards of images, in the shape of ``exits`` (0-based) and ``confidence``, the one at each image's exit."""
        at, sure = np.asarray(exits), np.asarray(confidence, np.float64)
        weights = np.asarray(self.reliability)[at]  # (..., 2)
        reliable = 1 / (1 + np.exp(-(weights[..., 0] * log_odds(sure) + weights[..., 1])))
        return np.asarray(sure * reliable - self.penalty * np.asarray(self.compute)[at])

    def arm_exits(self, record: ExitRecord) -> Ints:
        """(B, A) exit of every image at every arm's threshold."""
        return np.stack([policy.exits(record) for policy in self.policies], axis=1)

    def start(self) -> BanditState:
        """The state before the first image."""
        return BanditState(0.0, [0.0] * len(self.policies), [0.0] * len(self.policies))

    def choose(self, state: BanditState) -> int:
        """The arm with the largest upper confidence bound; an unused one first, from the dearest on."""
        wide = self.exploration * math.sqrt(2 * math.log(max(state.images, 1.0)))
        best, found = -math.inf, 0
        for arm in range(len(state.pulls) - 1, -1, -1):
            pulls = state.pulls[arm]
            if pulls < 1e-9:
                return arm
            bound = state.totals[arm] / pulls + wide / math.sqrt(pulls)
            if bound > best:
                best, found = bound, arm
        return found

    def update(self, state: BanditState, arm: int, rewards: Sequence[float]) -> None:
        """Count an image that used ``arm``.

        Args:
            rewards: the image's reward, last; before it those of the thresholds right below, if they are known.
        """
        if self.memory is not None:
            keep = math.exp(-1 / self.memory)
            state.images *= keep
            state.pulls[:] = [keep * pulls for pulls in state.pulls]
            state.totals[:] = [keep * total for total in state.totals]
        state.images += 1
        for place, reward in enumerate(rewards, start=arm + 1 - len(rewards)):
            state.pulls[place] += 1
            state.totals[place] += reward


def fit_bandit(
    record: ExitRecord, policy: Policy, n_arms: int = 12, *, exploration: float = 0.1, lower: bool = True,
    memory: int | None = None,
) -> ThresholdBandit:  # fmt: skip
    """A bandit whose best arm on ``record`` is a fitted policy's threshold: reliability and penalty are fitted there.

    Args:
        record: held-out images with labels, those that ``policy`` was fitted on; not of test.
        policy: with a single threshold. n_arms: thresholds evenly spaced in compute, besides that of ``policy``.
        exploration, lower, memory: as `ThresholdBandit`.

    Raises:
        ValueError: a test record, a policy with several thresholds, one that cannot be deployed, or fewer than 2 arms.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("calibration")
        >>> bandit = fit_bandit(record, dx.fit_policy(record, flops=0.3), n_arms=5)
        >>> bandit.thresholds.round(3).tolist()
        [0.0, 0.755, 0.962, 0.997, 1.0, 1.01]
    """
    if record.meta.split == "test":
        raise ValueError("a bandit is fitted on calibration or val; on test it is only played")
    if not policy.deployable:
        raise ValueError(not_deployable(policy.name))
    if len(policy.thresholds) != 1:
        raise ValueError(f"a bandit moves one threshold; policy {policy.name!r} has {len(policy.thresholds)}")
    if n_arms < 2:
        raise ValueError(f"n_arms={n_arms} must be at least 2")
    policy.check(record.n_exits)
    arms = _arms(record, policy, n_arms)
    odds, correct = log_odds(np.asarray(confidence_at(record, policy), np.float64)), record.correct
    gates = (learn_gate(odds[:, [k]], correct[:, k]) for k in range(record.n_exits))
    reliability = tuple((slope, intercept) for slope, intercept in gates)  # of a correct answer, over the log-odds
    bandit = ThresholdBandit(arms, reliability, tuple(record.flops_fraction.tolist()), 0.0, exploration, lower, memory)
    exits = bandit.arm_exits(record)
    value = bandit.rewards(exits, at_exits(confidence_at(record, policy), exits.T).T).mean(axis=0)
    compute = record.flops_fraction[exits].mean(axis=0)
    return replace(bandit, penalty=_penalty(value, compute, arms.index(policy)))


def _arms(record: ExitRecord, policy: Policy, n_arms: int) -> tuple[Policy, ...]:
    """Policies from the cheapest threshold to the dearest, evenly spaced in compute, ``policy`` among them."""
    found = policy.candidates(record)
    compute = found.exit_counts @ record.flops_fraction / record.n_images
    chosen = {policy.thresholds: float(record.flops_fraction[policy.exits(record)].mean())}
    for share in np.linspace(compute.min(), compute.max(), n_arms):
        row = int(np.abs(compute - share).argmin())
        chosen.setdefault(replace(policy, thresholds=(found.thresholds[row],)).thresholds, float(compute[row]))
    sign = -1 if policy.falling else 1
    order = sorted(chosen, key=lambda thresholds: (chosen[thresholds], sign * thresholds[0]))
    return tuple(replace(policy, thresholds=thresholds, fitted={}) for thresholds in order)


def confidence_at(record: ExitRecord, policy: Policy) -> Array:
    """(B, K) confidences at the policy's temperatures, as the exit loop gives them; without logits the record's own."""
    if not policy.temperatures or record.logits is None:
        return record.confidence
    seen = (policy.read(k, record.logits[:, k], ("confidence",)) for k in range(record.n_exits))
    return np.stack([one["confidence"] for one in seen], axis=1)


def _penalty(value: Floats, compute: Floats, arm: int) -> float:
    """The penalty at which ``arm`` has the largest mean reward, the middle one; or an arm as near to it in compute.

    ``value``, ``compute``: (A,) means over images, the reward being value − penalty · compute.
    """
    rise, run = np.subtract.outer(value, value), np.subtract.outer(compute, compute)
    slopes = np.unique(np.append(rise[run > 0] / run[run > 0], 0.0).clip(0))
    tried = np.append((slopes[:-1] + slopes[1:]) / 2, slopes[-1] + 1)
    off = np.abs(compute[(value - tried[:, None] * compute).argmax(axis=1)] - compute[arm])
    return float(np.median(tried[off <= off.min() + 1e-12]))

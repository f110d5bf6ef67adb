"""Bases of most policies: thresholds that are real numbers on a score, and thresholds that count exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..records.record import ExitRecord
from ..utils.texts import short
from ..utils.typing import Ints
from .base import Policy
from .candidates import Candidates, count_reached
from .ranking import between_values, floor_shares, share_thresholds

NEVER = 1_000_000  # a number of exits that no model has
LOG_ODDS = np.arange(12, -5, -0.02)  # of the thresholds that risk control tries


class ScorePolicy(Policy):
    """Base of policies that compare a score: the threshold is a real number from `threshold_all` to `threshold_none`.

    A subclass gives ``name``, ``reads``, ``rule``, ``summary`` and ``compares``, and `value` if the value compared is
    not its first score. Values must lie between ``threshold_all`` (0.0) and ``threshold_none`` (1.01); a subclass whose
    values do not sets both, and `grid` for risk control. See docs/extending.md.

    Example:
        >>> class DoublePolicy(ScorePolicy):
        ...     name, reads, compares = "double", ("margin",), "twice the margin"
        ...     rule, summary = "Exit at twice a margin of **{}**.", "twice the margin"
        ...     def value(self, exit, scores, state):
        ...         return 2 * scores["margin"], state
        >>> DoublePolicy((0.5,)).decide(0, {"margin": np.array([0.2, 0.3])}, ())[0].tolist()
        [False, True]
    """

    per_exit_thresholds = True
    holds = True
    threshold_none = 1.01  # no confidence, no margin gets there, rounding included

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.floating) and not isinstance(threshold, bool)
        low, high = sorted((self.threshold_all, self.threshold_none))
        if not number or not low <= threshold <= high:
            raise ValueError(
                f"threshold={short(threshold)} of policy {self.name!r} must be a number from {low:g} to {high:g}"
            )
        return float(str(np.float32(threshold)))

    def candidates(self, record: ExitRecord) -> Candidates:
        """See `Policy.candidates`: a threshold between any two neighbouring values."""
        return between_values(record, self)

    def counts(self, record: ExitRecord, thresholds: Sequence[float]) -> Ints:
        """See `Policy.counts`."""
        if record.n_exits == 1 or not record.n_images:
            return super().counts(record, thresholds)
        sign = -1 if self.falling else 1
        levels = np.asarray(thresholds, np.float32).astype(np.float64) * sign  # as the policy compares
        return count_reached(self.values(record).astype(np.float64) * sign, record.correct, levels)

    def with_shares(self, record: ExitRecord, shares: Sequence[float]) -> Policy:
        """See `Policy.with_shares`."""
        return replace(self, thresholds=tuple(share_thresholds(record, self, floor_shares(record, shares))))

    @classmethod
    def grid(cls, n_exits: int, n_classes: int) -> list[float]:
        """See `Policy.grid`. Ours: evenly in the logarithm of the odds, so that thresholds near certainty are kept."""
        del n_exits, n_classes
        inner = 1 / (1 + np.exp(-LOG_ODDS))
        return [cls.threshold_none, *(float(f"{t:.7g}") for t in inner), cls.threshold_all]


class CountPolicy(Policy):
    """Base of policies that count: the threshold is a whole number from `threshold_all` on.

    Example:
        >>> from dmpo_explore.policies import PatiencePolicy
        >>> PatiencePolicy.settings(4), PatiencePolicy((2.0,)).thresholds
        ([0, 1, 2, 3], (2,))
    """

    threshold_none = NEVER
    unit = ""

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.integer) and not isinstance(threshold, bool)
        if not number or not self.threshold_all <= threshold <= self.threshold_none or int(threshold) != threshold:
            least = int(self.threshold_all)
            raise ValueError(
                f"threshold={short(threshold)} of policy {self.name!r} must be a whole number from {least}"
            )
        return int(threshold)

    @classmethod
    def settings(cls, n_exits: int) -> Sequence[float] | None:
        """See `Policy.settings`: one number per exit."""
        return [int(cls.threshold_all) + k for k in range(n_exits)]

    @classmethod
    def format_value(cls, number: float, digits: int = 1) -> str:
        """See `Policy.format_value`: a whole number."""
        del digits
        return f"{number:g}" if number < NEVER else "more than there are exits"

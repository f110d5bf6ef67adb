"""Policies that compare one number per exit with a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..records.record import ExitRecord
from .base import Policy, State

NEVER = 1_000_000  # a number of exits that no model has


class ScalarPolicy(Policy):
    """Leave when a value of the exits seen so far reaches the threshold: from below, or from above if ``falling``."""

    falling: ClassVar[bool] = False

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """The value (b,) that is compared, and the new state; see `Policy.decide`."""
        return scores[self.name], state

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.decide`."""
        value, state = self.value(exit, scores, state)
        threshold = float(np.float32(self.threshold(exit)))
        return (value <= threshold if self.falling else value >= threshold), state

    def values(self, record: ExitRecord) -> npt.NDArray[Any]:
        """(B, K−1) what is compared with the thresholds at every exit but the last."""
        columns, state, found = self.columns(record), self.start(record.n_images, record.labels), []
        for exit in range(record.n_exits - 1):
            seen = {name: column[:, exit] for name, column in columns.items()}
            value, state = self.value(exit, seen, state)
            found.append(value)
        return np.stack(found, axis=1) if found else np.zeros((record.n_images, 0), np.float32)


class ScorePolicy(ScalarPolicy):
    """Its threshold is a real number, ``threshold_all`` and ``threshold_none`` its ends."""

    threshold_none = 1.01  # no confidence, no margin gets there, rounding included

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.floating) and not isinstance(threshold, bool)
        low, high = sorted((self.threshold_all, self.threshold_none))
        if not number or not low <= threshold <= high:
            raise ValueError(
                f"threshold={threshold!r} of policy {self.name!r} must be a number from {low:g} to {high:g}"
            )
        return float(str(np.float32(threshold)))


class CountPolicy(ScalarPolicy):
    """Its threshold is a whole number from ``threshold_all`` on."""

    threshold_none = NEVER

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.integer) and not isinstance(threshold, bool)
        if not number or not self.threshold_all <= threshold <= self.threshold_none or int(threshold) != threshold:
            least = int(self.threshold_all)
            raise ValueError(f"threshold={threshold!r} of policy {self.name!r} must be a whole number from {least}")
        return int(threshold)

    @classmethod
    def settings(cls, n_exits: int) -> list[int] | None:
        """See `Policy.settings`."""
        return [int(cls.threshold_all) + k for k in range(n_exits)]

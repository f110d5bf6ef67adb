"""Learning curves of trials: the operating points of every epoch, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..utils.typing import Array


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The operating points of one trial, epoch by epoch.

    Args:
        trial: its number. params: its settings. planned: number of planned epochs.
        epochs: epoch, from 1 → points (P, 3): accuracy, FLOPs fraction, training seconds so far.

    Example:
        >>> curve = LearningCurve(0, {"model.rank": 4}, planned=3, epochs={1: np.array([[0.7, 0.5, 10.0]])})
        >>> curve.last, curve.points().tolist()
        (1, [[0.7, 0.5, 10.0]])
    """

    trial: int
    params: Mapping[str, Any]
    planned: int
    epochs: Mapping[int, Array] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last finished epoch; 0 if none."""
        return max(self.epochs, default=0)

    def points(self, first: int = 1, last: int | None = None) -> Array:
        """(P, 3): the points of epochs ``first`` to ``last``, both included."""
        end = self.last if last is None else last
        return np.concatenate([np.empty((0, 3)), *(p for e, p in sorted(self.epochs.items()) if first <= e <= end)])


def all_points(curves: Sequence[LearningCurve]) -> Array:
    """(P, 3): every point of every epoch of every trial."""
    return np.concatenate([np.empty((0, 3)), *(t.points() for t in curves)])

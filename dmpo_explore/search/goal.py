"""The goal of a search, and the learning curves of trials that it is measured by: operating points of every epoch.

The goal of a search: accuracy against compute or time, by Pareto fronts and hypervolumes of operating points.
In: points (P, 3): accuracy, FLOPs fraction, training seconds. Out: the points that no other dominates, and the volume
they dominate up to a stated reference: optuna ranks trials, not epochs, and its hypervolume is private. Ours too: which
points of a record represent an epoch (`operating_points`), and the reference, accuracy 0 and ``max_flops``. With
``max_flops`` 1 the hypervolume is the accuracy averaged over all budgets from 0 to the plain backbone's compute, where
a budget that no setting can meet counts 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..fitting.fit import sweep
from ..records.record import ExitRecord
from ..utils.options import check_options, option, read_options
from ..utils.typing import Array

BUDGETS = 20  # levels of compute at which an epoch is read
TIMES = 10  # levels of training time, where that is an objective


def non_dominated(costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Pareto front: (P,) which rows of ``costs`` (P, D), smaller is better, no other row dominates.

    Of equal rows the first one counts.

    Example:
        >>> non_dominated([[1, 3], [2, 2], [3, 3]]).tolist()
        [True, True, False]
    """
    table = np.asarray(costs, np.float64)
    mask = np.zeros(len(table), bool)
    front = np.empty_like(table)
    found = 0
    for row in np.lexsort(table.T[::-1]):  # a later row never beats an earlier one
        if not (front[:found] <= table[row]).all(axis=1).any():
            front[found], mask[row] = table[row], True
            found += 1
    return mask


def hypervolume(costs: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume between ``costs`` (P, D), smaller is better, and ``reference`` (D,); sliced along the last objective.

    Rows that are not below the reference in every objective add no volume. O(P log P) for two objectives.

    Example:
        >>> hypervolume([[1, 3], [2, 2]], [4, 4])
        5.0
    """
    corner = np.asarray(reference, np.float64)
    table = np.asarray(costs, np.float64).reshape(-1, len(corner))
    table = table[(table < corner).all(axis=1)]
    if not len(table):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - table.min())
    table = table[np.argsort(table[:, -1], kind="stable")]
    depth = np.diff(np.append(table[:, -1], corner[-1]))
    if len(corner) == 2:
        return float(depth @ (corner[0] - np.minimum.accumulate(table[:, 0])))
    slices = [hypervolume(table[: i + 1, :-1], corner[:-1]) for i in range(len(table))]
    return float(depth @ slices)


@dataclass(frozen=True)
class Goal:
    """The goal of a search: high accuracy, low compute and, with ``max_seconds``, short training, within limits.

    Args:
        max_flops: the largest FLOPs fraction. max_seconds: the longest training; None: time does not count.

    Raises:
        ValueError: a limit that is not a finite number above 0.

    Example:
        Points: accuracy, FLOPs fraction, training seconds. The second costs more than the first and is less accurate:

        >>> goal = Goal(max_flops=1.0)
        >>> points = [(0.8, 0.5, 10.0), (0.7, 0.6, 10.0), (0.9, 0.75, 10.0)]
        >>> goal.front(points).tolist(), round(goal.hypervolume(points), 3)
        ([True, False, True], 0.425)
    """

    max_flops: float = option(1.0, "Largest FLOPs fraction.", gt=0)
    max_seconds: float | None = option(None, "Longest training.", gt=0, unit="seconds")

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def reference(self) -> Array:
        """(2,) or (3,) reference costs of the hypervolume: minus accuracy 0, and the limits."""
        return np.array([0.0, *self.to_dict().values()])

    @property
    def budgets(self) -> Array:
        """(BUDGETS,) levels of compute, evenly spread up to ``max_flops``."""
        return np.arange(1, BUDGETS + 1) * (self.max_flops / BUDGETS)

    @property
    def times(self) -> Array:
        """(TIMES,) levels of training seconds up to ``max_seconds``; one, infinite, if time does not count."""
        if self.max_seconds is None:
            return np.array([np.inf])
        return np.arange(1, TIMES + 1) * (self.max_seconds / TIMES)

    def costs(self, points: npt.ArrayLike) -> Array:
        """(P, 2 or 3), smaller is better: minus accuracy, FLOPs fraction and, if it counts, seconds."""
        table = np.asarray(points, np.float64).reshape(-1, 3)[:, : len(self.reference)]
        return np.asarray(table * np.array([-1.0, 1.0, 1.0])[: len(self.reference)])

    def front(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """(P,) which points are within the limits and not dominated; of equal ones the first."""
        costs = self.costs(points)
        inside = (costs[:, 1:] <= self.reference[1:] * (1 + 1e-12)).all(axis=1)
        mask = np.zeros(len(costs), bool)
        mask[np.flatnonzero(inside)[non_dominated(costs[inside])]] = True
        return mask

    def hypervolume(self, points: npt.ArrayLike) -> float:
        """Volume that the points dominate up to `reference`."""
        return hypervolume(self.costs(points), self.reference)

    def values(self, points: npt.ArrayLike) -> tuple[float, ...]:
        """Objectives of the representative point, which has the largest hypervolume of its own; else the reference."""
        costs = np.concatenate([self.reference[None], self.costs(points)])
        best = costs[int(np.argmax((self.reference - costs).clip(min=0).prod(axis=1)))]
        return (0.0 - float(best[0]), *best[1:].tolist())

    def to_dict(self) -> dict[str, float]:
        """The limits that count."""
        limits = {"max_flops": self.max_flops, "max_seconds": self.max_seconds}
        return {name: value for name, value in limits.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> Goal:
        """Read `to_dict`'s limits; raises ValueError for unknown names and bad values."""
        return read_options(cls, values, "goal")


def operating_points(record: ExitRecord, goal: Goal) -> pd.DataFrame:
    """The operating points of an epoch: those of `fit_policy` at each of ``goal.budgets`` on its val record.

    One confidence threshold each, with the accuracy and the realised FLOPs fraction on the same record; the cheapest
    setting (all images exit at exit 1) is one of them. These are few points in place of every threshold, so that noise
    of single images does not make a front of hundreds. Empty if exit 1 already costs more than ``goal.max_flops``.

    Returns:
        ``threshold``, ``accuracy``, ``flops_fraction``; rising, none dominated by another.

    Example:
        >>> import dmpo_explore as dx
        >>> points = operating_points(dx.load_run("demo").record("val"), Goal(max_flops=0.5))
        >>> bool(points["flops_fraction"].max() <= 0.5), bool(points["accuracy"].is_monotonic_increasing)
        (True, True)
    """
    swept = sweep(record, "confidence")
    ends = np.searchsorted(swept.flops_fraction, goal.budgets * (1 + 1e-12), side="right")
    rows = sorted({int(np.argmax(swept.correct[:end])) for end in ends if end} | ({0} if ends[-1] else set()))
    accuracy = swept.correct[rows] / record.n_images
    costs = np.stack([-accuracy, swept.flops_fraction[rows]], axis=1)
    kept = np.array(rows, np.int64)[non_dominated(costs)]
    return pd.DataFrame(
        {
            "threshold": swept.thresholds[kept],
            "accuracy": swept.correct[kept] / record.n_images,
            "flops_fraction": swept.flops_fraction[kept],
        }
    )


# Learning curves of trials: the operating points of every epoch, as arrays.


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

"""Pareto fronts and hypervolumes of operating points, on arrays.

In: points (P, 3): accuracy, FLOPs fraction, training seconds. Out: the points that no other dominates, and the volume
they dominate up to a stated reference: optuna ranks trials, not epochs, and its hypervolume is private. Ours too: which
points of a record represent an epoch (`operating_points`), and the reference, accuracy 0 and ``max_flops``. With
``max_flops`` 1 the hypervolume is the accuracy averaged over all budgets from 0 to the plain backbone's compute, where
a budget that no setting can meet counts 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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

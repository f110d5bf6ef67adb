"""Candidate thresholds of a policy, and the exit counts of each, correct and incorrect.

In: an `ExitRecord`, exits or values to compare. Out: `Candidates`, counts (K, 2) or (G, K, 2). Vectorised over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records.record import ExitRecord
from ..utils.typing import Array, Ints, at_exits


@dataclass(frozen=True, eq=False)
class Candidates:
    """G single thresholds with their exit counts on a record.

    Args:
        thresholds: (G,). exit_counts: (G, K) int64, images that exit at each exit. correct: (G,) int64.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("val")
        >>> found = dx.POLICIES["fixed"]((1,)).candidates(record)
        >>> found.thresholds.tolist(), found.exit_counts[0].tolist()
        ([1, 2, 3, 4, 5, 6], [5000, 0, 0, 0, 0, 0])
    """

    thresholds: Array
    exit_counts: Array
    correct: Array


def count_answers(record: ExitRecord, exits: Array) -> Ints:
    """(K, 2): images that exit at each exit, correct and incorrect, when they exit at ``exits`` (B,)."""
    incorrect = at_exits(record.prediction, exits) != record.labels
    return np.bincount(2 * exits + incorrect, minlength=2 * record.n_exits).reshape(-1, 2)


def count_reached(values: Array, correct: Array, levels: Array) -> Ints:
    """(G, K, 2): images that exit correct and incorrect at every exit, for each level.

    Args:
        values: (B, K−1); an image exits at the first exit whose value is at least the level, else at the last.
        correct: (B, K) bool. levels: (G,) the same level at all exits.
    """
    best = np.maximum.accumulate(values, axis=1)  # exited by exit k if best[:, k] ≥ level
    n_exits = correct.shape[1]
    counts = np.zeros((len(levels), n_exits, 2), np.int64)
    for k in range(n_exits):
        for side, mine in enumerate((correct[:, k], ~correct[:, k])):
            counts[:, k, side] = _exited(best, k, mine, levels) - _exited(best, k - 1, mine, levels)
    return counts


def _exited(best: Array, exit: int, mine: Array, levels: Array) -> Array:
    """How many of ``mine`` have exited by ``exit`` at each level; none before the first exit, all by the last."""
    if exit < 0:
        return np.zeros(len(levels), np.int64)
    if exit >= best.shape[1]:
        return np.full(len(levels), mine.sum())
    ranked = np.sort(best[mine, exit])
    return np.asarray(ranked.size - np.searchsorted(ranked, levels, side="left"))

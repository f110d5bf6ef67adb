"""Rank images by an exit score: ties, thresholds midway between neighbours, thresholds for target shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..records.record import ExitRecord
from ..utils.typing import Array
from .scalar import ScorePolicy

TIE = 1e-6  # float noise between batch sizes reaches 4e-7


def share_thresholds(record: ExitRecord, policy: ScorePolicy, wanted: Callable[[int, int], int]) -> list[float]:
    """Walk through the exits; at each one the first in the ranking go. Ties (`TIE`) leave together.

    Args:
        wanted: (exit, images still there) → how many of them should leave.

    Returns:
        K−1 thresholds of ``policy``.
    """
    ranking = leaning(record, policy)
    staying, thresholds = np.ones(record.n_images, bool), []
    for exit in range(record.n_exits - 1):
        ranked = np.sort(ranking[staying, exit])[::-1]
        number = wanted(exit, ranked.size)
        ends = tie_ends(ranked)
        end = ends[np.searchsorted(ends, number)] if 0 < number < ranked.size else number
        if number == 0:
            thresholds.append(policy.threshold_none)
        elif end >= ranked.size:
            thresholds.append(policy.threshold_all)
        else:
            thresholds.append(float(midway(ranked, np.array([end]), policy)[0]))
        level = np.float32(thresholds[-1]) * (-1 if policy.falling else 1)
        staying &= ~(ranking[:, exit] >= level)
    return thresholds


def leaning(record: ExitRecord, policy: ScorePolicy) -> Array:
    """(B, K−1) float32: the higher, the sooner it leaves."""
    return policy.values(record) * np.float32(-1 if policy.falling else 1)


def tie_ends(ranked: Array) -> Array:
    """Where each group of ties ends in falling values, the last end being their number."""
    return np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > TIE) + 1, ranked.size)


def midway(ranked: Array, ends: Array, policy: ScorePolicy) -> Array:
    """Thresholds of ``policy`` between the groups that end at ``ends`` of falling `leaning` values.

    Exact in float32 (scores up to 15 lie below 1e-6 apart).
    """
    between = (ranked[ends - 1].astype(np.float64) + ranked[ends]) / 2
    return np.asarray(between.astype(np.float32), np.float64) * (-1 if policy.falling else 1)

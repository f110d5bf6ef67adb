"""What every stop of a slider would do, as counts: so that a browser can show it without asking.

In: a record, a policy (fitted on val where it learns) and thresholds. Out: (G, 2K) integers for G stops, right and
wrong at exit 1, right and wrong at exit 2, …: what `Policy.exits` would give for each, in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx

from ..policies.scalar import ScalarPolicy, ScorePolicy
from ..utils.typing import Array

Counts = npt.NDArray[np.int64]
STOPS = 80  # of a slider for one exit


def counts_of(record: dx.ExitRecord, exits: Array) -> Counts:
    """(2K,) counts of one policy's exits (B,)."""
    right = record.prediction[np.arange(record.n_images), exits] == record.labels
    return np.bincount(2 * exits + ~right, minlength=2 * record.n_exits)


def single(record: dx.ExitRecord, policy: dx.Policy, thresholds: Sequence[float]) -> Counts:
    """(G, 2K): ``policy`` with each of ``thresholds`` for all exits."""
    if not isinstance(policy, ScalarPolicy) or record.n_exits == 1 or not record.n_images:
        return np.stack([counts_of(record, replace(policy, thresholds=(t,)).exits(record)) for t in thresholds])
    best = np.maximum.accumulate(_leaning(record, policy), axis=1)  # leaves by exit k if best[:, k] ≥ level
    levels, right = _levels(policy, thresholds), record.correct
    counts = np.zeros((len(levels), 2 * record.n_exits), np.int64)
    for k in range(record.n_exits):
        for side, mine in enumerate((right[:, k], ~right[:, k])):
            counts[:, 2 * k + side] = _reached(best, k, mine, levels) - _reached(best, k - 1, mine, levels)
    return counts


def each(record: dx.ExitRecord, policy: dx.Policy, stops: Sequence[Sequence[float]]) -> list[Counts]:
    """For every exit but the last (G, 2K): its stops while the other exits keep ``policy``'s thresholds."""
    assert isinstance(policy, ScalarPolicy)
    values, wrong = _leaning(record, policy), ~record.correct
    leaves = values >= _levels(policy, [policy.threshold(k) for k in range(record.n_exits - 1)])
    nexts = np.full(record.n_images, record.n_exits - 1)  # where an image goes that this exit keeps
    after = []
    for exit in reversed(range(leaves.shape[1])):
        after.append(nexts)
        nexts = np.where(leaves[:, exit], exit, nexts)
    columns, staying, found = 2 * record.n_exits, np.arange(record.n_images), []
    fixed = np.zeros(columns, np.int64)
    for exit, later in zip(range(leaves.shape[1]), reversed(after), strict=True):
        levels = _levels(policy, stops[exit])
        order = np.argsort(levels)
        bucket = np.searchsorted(levels[order], values[staying, exit], side="right")  # leaves at stop g if g < bucket
        size = (len(levels) + 1, columns)
        leaving = bucket * columns + 2 * exit + wrong[staying, exit]
        going = bucket * columns + 2 * later[staying] + wrong[staying, later[staying]]
        gone, kept = (np.bincount(what, minlength=size[0] * columns).reshape(size) for what in (leaving, going))
        counts = np.empty((len(levels), columns), np.int64)
        counts[order] = fixed + gone[::-1].cumsum(axis=0)[::-1][1:] + kept.cumsum(axis=0)[:-1]
        found.append(counts)
        now = leaves[staying, exit]
        fixed = fixed + np.bincount(2 * exit + wrong[staying[now], exit], minlength=columns)
        staying = staying[~now]
    return found


def stops_of_exit(record: dx.ExitRecord, policy: dx.Policy, exit: int) -> list[float]:
    """Thresholds of ``exit`` (0-based) alone, from "all leave" to "none leaves", evenly spread over the images."""
    assert isinstance(policy, ScorePolicy)
    found = np.unique(np.quantile(policy.values(record)[:, exit], np.linspace(0, 1, STOPS)).astype(np.float32))
    inner = sorted({replace(policy, thresholds=(float(t),)).thresholds[0] for t in found} - {policy.threshold_all})
    inner = [t for t in inner if t != policy.threshold_none]
    return [policy.threshold_all, *(inner[::-1] if policy.falling else inner), policy.threshold_none]


def _leaning(record: dx.ExitRecord, policy: ScalarPolicy) -> Array:
    """(B, K−1) float64: the higher, the sooner it leaves; thresholds of `_levels` compare as the policy compares."""
    return policy.values(record).astype(np.float64) * (-1 if policy.falling else 1)


def _levels(policy: dx.Policy, thresholds: Sequence[float]) -> Array:
    sign = -1 if getattr(policy, "falling", False) else 1
    return np.asarray(thresholds, np.float32).astype(np.float64) * sign


def _reached(best: Array, exit: int, mine: Array, levels: Array) -> Array:
    """How many of ``mine`` have left by ``exit`` at each level; none before the first exit, all by the last."""
    if exit < 0:
        return np.zeros(len(levels), np.int64)
    if exit >= best.shape[1]:
        return np.full(len(levels), mine.sum())
    ranked = np.sort(best[mine, exit])
    return np.asarray(ranked.size - np.searchsorted(ranked, levels, side="left"))

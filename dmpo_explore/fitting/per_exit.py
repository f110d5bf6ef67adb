"""Threshold per exit: coordinate search for K−1 thresholds under a compute budget or an accuracy floor.

In: values (B, K−1) to compare with thresholds, correct predictions (B, K), FLOPs (K,). Out: K−1 thresholds that do at
least as well on these images as any single one. Ours: coordinate search on the sorted values. With a weight λ per unit
of compute, the best cut at one exit, the others held, is the best prefix of its ranking, so that a pass over the exits
from the last to the first never lowers accuracy − λ · FLOPs. λ is bisected to the target, from the best single
threshold on, and a last pass moves single cuts within the target itself. K−1 numbers overfit more than one does:
`fitting.cross_validated_gain` measures the gain on images that were not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..policies.base import Policy
from ..policies.ranking import leaning, midway, tie_ends
from ..records.record import ExitRecord
from ..utils.typing import Array, at_exits

Key = Callable[[Array, Array], Array]  # correct, flops → what to maximise, −inf off the target
PRICES = (1e-4, 1e2)  # accuracy per unit of reference compute
BISECTIONS, PASSES = 14, 12


class Found(NamedTuple):
    """Cuts (K−1,): how many of each exit's ranking exit if they reach it; correct predictions and mean FLOPs."""

    cuts: Array
    correct: int
    flops: float


@dataclass(frozen=True, eq=False)
class Ranking:
    """Images ranked at every exit.

    Args:
        order: (K−1, B) images, the first to exit first. place: (B, K−1) their places there.
        ends: per exit, cuts that do not divide ties. right: (B, K) whether correct. flops: (K,) of exiting at each
            exit.
    """

    order: Array
    place: Array
    ends: list[Array]
    right: Array
    flops: Array

    @classmethod
    def of(cls, values: Array, right: Array, flops: Array) -> Ranking:
        """From `leaning` values (B, K−1)."""
        order = np.argsort(values, axis=0, kind="stable")[::-1].T
        place = np.empty(values.shape, np.int64)
        for k, row in enumerate(order):
            place[row, k] = np.arange(len(row))
        ends = [np.append(0, tie_ends(values[row, k])) for k, row in enumerate(order)]
        return cls(order, place, ends, right.astype(np.float64), np.asarray(flops, np.float64))

    def outcome(self, cuts: Array) -> Found:
        """Correct predictions and mean FLOPs with these cuts."""
        leave = np.column_stack([self.place < cuts, np.ones(len(self.place), bool)])
        exits = leave.argmax(axis=1)
        return Found(cuts.copy(), int(at_exits(self.right, exits).sum()), float(self.flops[exits].mean()))


def best_thresholds(record: ExitRecord, policy: Policy, start: float, key: Key) -> list[float]:
    """K−1 thresholds of ``policy`` that are best by ``key`` on ``record``; see `budget_key`, `floor_key`.

    Args:
        start: a single threshold that meets the target.
    """
    values = leaning(record, policy)
    ranking = Ranking.of(values, record.correct, record.flops_fraction)
    level = np.float32(start) * (-1 if policy.falling else 1)
    begun = (values >= level).sum(axis=0)
    thresholds = []
    for k, cut in enumerate(best_cuts(ranking, begun, key).cuts):
        ends = np.array([cut])
        inner = 0 < cut < record.n_images
        edge = policy.threshold_none if cut == 0 else policy.threshold_all
        between = midway(values[ranking.order[k], k], ends, policy)[0] if inner else edge
        thresholds.append(start if inner and cut == begun[k] else float(between))
    return thresholds


def budget_key(budget: float) -> Key:
    """Most correct predictions at mean FLOPs of at most ``budget``; among equals the cheaper."""
    return lambda correct, flops: np.where(flops <= budget * (1 + 1e-12), correct - 1e-3 * flops, -np.inf)


def floor_key(least: float) -> Key:
    """Least FLOPs with at least so many correct predictions."""
    return lambda correct, flops: np.where(correct >= least - 1e-9, -flops, -np.inf)


def best_cuts(ranking: Ranking, start: Array, key: Key) -> Found:
    """The best cuts found by the search, at least as good by ``key`` as ``start``."""
    best = ranking.outcome(start)

    def better(one: Found, two: Found) -> Found:
        scores = key(np.array([one.correct, two.correct]), np.array([one.flops, two.flops]))
        return two if scores[1] > scores[0] else one

    low, high = np.log(PRICES)
    budget = best.flops
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = priced(ranking, best.cuts, float(np.exp(middle)))
        best = better(best, found)
        low, high = (middle, high) if found.flops > budget else (low, middle)
    for _ in range(PASSES):
        found = one_cut_each(ranking, best.cuts, key)
        if better(best, found) is best:
            return best
        best = found
    return best


def priced(ranking: Ranking, start: Array, price: float) -> Found:
    """Passes of `one_pass` until accuracy − price · FLOPs no longer changes."""
    cuts, last = start, -np.inf
    for _ in range(PASSES):
        cuts = one_pass(ranking, cuts, price)
        found = ranking.outcome(cuts)
        value = found.correct / len(ranking.place) - price * found.flops
        if value <= last + 1e-12:
            break
        last = value
    return found


def one_pass(ranking: Ranking, cuts: Array, price: float) -> Array:
    """From the last exit to the first, the best cut at each while the others stay."""
    cuts = cuts.copy()
    gone = np.logical_or.accumulate(ranking.place < cuts, axis=1)
    come = np.column_stack([np.ones(len(gone), bool), ~gone[:, :-1]])  # (B, K−1): whether an image reaches each exit
    gain = ranking.right - price * ranking.flops  # (B, K)
    later = gain[:, -1].copy()
    for k in range(len(cuts) - 1, -1, -1):
        order, ends = ranking.order[k], ranking.ends[k]
        total = np.append(0, np.cumsum(((gain[:, k] - later) * come[:, k])[order]))
        cuts[k] = ends[np.argmax(total[ends])]
        later = np.where(ranking.place[:, k] < cuts[k], gain[:, k], later)
    return cuts


def one_cut_each(ranking: Ranking, cuts: Array, key: Key) -> Found:
    """From the last exit to the first, the best cut at each by ``key`` while the others stay."""
    cuts = cuts.copy()
    here = ranking.outcome(cuts)
    images, rows = len(ranking.place), np.arange(len(ranking.place))
    for k in range(len(cuts) - 1, -1, -1):
        leave = np.column_stack([ranking.place < cuts, np.ones(images, bool)])
        leave[:, k] = False
        other = leave.argmax(axis=1)  # where they exit without exit k
        come = other > k
        order, ends = ranking.order[k], ranking.ends[k]
        right = np.append(0, np.cumsum(((ranking.right[:, k] - ranking.right[rows, other]) * come)[order]))[ends]
        cost = np.append(0, np.cumsum(((ranking.flops[k] - ranking.flops[other]) * come)[order]))[ends] / images
        base = ranking.right[rows, other].sum(), ranking.flops[other].mean()
        scores = key(base[0] + right, base[1] + cost)
        best = int(np.argmax(scores))
        if scores[best] > key(np.array([here.correct]), np.array([here.flops]))[0]:
            cuts[k] = ends[best]
            here = ranking.outcome(cuts)
    return here

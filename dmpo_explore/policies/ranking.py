"""Ranking of images by the value that a policy compares: ties, thresholds between neighbours, thresholds for shares.

In: a record and a policy. Out: thresholds that lie midway between neighbouring values. Ours: values closer than `TIE`
count as tied and exit together, so that float noise of another batch size or device cannot decide. Where very many
values lie close together (confidence near 1 of an overconfident model), ties form long chains and thresholds grow
coarse. So more than `MOST_SORTED` values are counted in bins: thresholds are then edges of bins, and values beside an
edge are parted however close they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..records.record import ExitRecord
from ..records.validation import release
from ..utils.texts import short
from ..utils.typing import Array, Ints
from .base import Candidates, Policy, count_reached

TIE = 1e-6  # float noise between batch sizes reaches 4e-7
MOST_SORTED = 500_000  # values; more lie so close together that ties form chains: they are counted in bins
MOST_BINS, MOST_SETTINGS = 2**19, 2**16


def share_thresholds(record: ExitRecord, policy: Policy, wanted: Callable[[int, int], int]) -> list[float]:
    """K−1 thresholds of ``policy`` at which given numbers of images exit, exit by exit, the highest in the ranking.

    Args:
        wanted: (exit, images that reach it) → how many of them should exit. Ties (`TIE`) exit together.
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


def floor_shares(record: ExitRecord, shares: Sequence[float]) -> Callable[[int, int], int]:
    """``wanted`` of `share_thresholds`: floor(B · share) images at each exit, or the remaining ones."""
    return lambda exit, staying: min(staying, int(record.n_images * shares[exit] + 1e-9))


def between_values(record: ExitRecord, policy: Policy) -> Candidates:
    """Every distinct outcome of one threshold of ``policy``, the cheapest first, O(BK log BK).

    Of more than `MOST_SORTED` values `binned_values`.
    """
    if record.n_images * (record.n_exits - 1) > MOST_SORTED:
        return binned_values(record, policy)
    early, right = record.n_exits - 1, record.correct.astype(np.int8)
    best = np.maximum.accumulate(leaning(record, policy), axis=1)  # exited by exit k if best[:, k] ≥ threshold
    order = np.argsort(best, axis=None)[::-1]  # all (image, exit) pairs, the first to exit first
    pairs = best.ravel()[order]
    ends = tie_ends(pairs) if pairs.size else np.zeros(0, np.int64)  # pairs that have exited with each group of ties
    cells = np.repeat(np.arange(0, len(ends) * early, max(early, 1)), np.diff(ends, prepend=0))  # group · early + exit
    cells += order % max(early, 1)
    exited = np.bincount(cells, minlength=len(ends) * early).reshape(len(ends), early).cumsum(axis=0)  # by exit k
    gains = np.add.reduceat((right[:, :-1] - right[:, 1:]).ravel()[order], np.append(0, ends)[:-1], dtype=np.int64)
    # from all images at exit 1, with the last group, to none early
    exit_counts = np.diff(np.insert(exited, 0, 0, axis=0)[::-1], axis=1, prepend=0, append=record.n_images)
    correct = right[:, -1].sum(dtype=np.int64) + np.append(0, np.cumsum(gains))[::-1]
    between = midway(pairs, ends[:-1][::-1], policy)
    thresholds = np.concatenate([[policy.threshold_all], between, [policy.threshold_none]])[-len(exit_counts) :]
    return Candidates(thresholds, exit_counts, correct)


def binned_values(
    record: ExitRecord, policy: Policy, bins: int = MOST_BINS, settings: int = MOST_SETTINGS
) -> Candidates:
    """Outcomes of one threshold of ``policy`` at ``settings`` thresholds at most, the cheapest first, O(BK).

    The thresholds are edges of ``bins`` equal bins (or of bins of width `TIE`, if these are fewer), chosen so that
    about equally many (image, exit) pairs lie between them. At each of them the counts are exact.
    """
    right, early = record.correct, record.n_exits - 1
    release(record.prediction)
    low, high = np.inf, -np.inf
    for best in _running_best(record, policy):  # an image has exited by exit k if the k-th one ≥ threshold
        low, high = min(low, float(best.min())), float(best.max())
    edges = np.linspace(low, high, max(2, min(bins, int((high - low) / TIE))) + 1).astype(np.float32)
    exited, gains = np.zeros((early, len(edges)), np.int32), np.zeros(len(edges), np.int64)
    for k, best in enumerate(_running_best(record, policy)):
        places = _bin_of(best, edges)
        exited[k] = np.bincount(places, minlength=len(edges))
        moved = np.flatnonzero(right[:, k] != right[:, k + 1])
        better = right[moved, k]
        gains += np.bincount(places[moved[better]], minlength=len(edges))
        gains -= np.bincount(places[moved[~better]], minlength=len(edges))
    rising = exited.sum(axis=0)[::-1].cumsum()  # pairs that have exited, from the highest edge on
    steps = np.searchsorted(rising, np.linspace(1, rising[-1], min(settings, len(edges)))).clip(max=len(edges) - 1)
    kept = np.unique(len(edges) - 1 - steps)  # rising edges
    for k in range(early):
        exited[k] = exited[k, ::-1].cumsum()[::-1]
    gains = gains[::-1].cumsum()[::-1]
    exit_counts = np.diff(exited[:, kept].T.astype(np.int64), axis=1, prepend=0, append=record.n_images)
    none = np.append(np.zeros(early, np.int64), record.n_images)
    last = right[:, -1].sum(dtype=np.int64)
    thresholds = edges[kept].astype(np.float64) * (-1 if policy.falling else 1)
    thresholds[0] = policy.threshold_all  # the lowest edge: all images exit at exit 1
    return Candidates(
        np.append(thresholds, policy.threshold_none), np.vstack([exit_counts, none]),
        np.append(last + gains[kept], last),
    )  # fmt: skip


def _running_best(record: ExitRecord, policy: Policy) -> Iterator[Array]:
    """K−1 times (B,), in the same memory: the highest of the `leaning` values up to each exit."""
    columns, state = policy.columns(record), policy.start(record.n_images, record.labels)
    best = np.full(record.n_images, -np.inf, np.float32)
    for exit in range(record.n_exits - 1):
        value, state = policy.value(exit, {name: column[:, exit] for name, column in columns.items()}, state)
        _check_range(value, policy)
        yield np.maximum(best, np.negative(value) if policy.falling else value, out=best)


def _bin_of(values: Array, edges: Array) -> Array:
    """(B,) the last edge that each value reaches, compared in float32 as a policy does."""
    scale = (len(edges) - 1) / max(float(edges[-1]) - float(edges[0]), TIE)
    places = ((values - edges[0]) * np.float32(scale)).astype(np.int32).clip(0, len(edges) - 1)
    places -= values < edges[places]
    above = np.minimum(places + 1, len(edges) - 1)
    return np.asarray(np.where(values >= edges[above], above, places))


def leaning(record: ExitRecord, policy: Policy) -> Array:
    """(B, K−1) float32 values with the sign at which a higher one exits sooner.

    Raises:
        ValueError: values beyond the policy's ``threshold_all`` or ``threshold_none``.
    """
    values = policy.values(record)
    _check_range(values, policy)
    return values * np.float32(-1 if policy.falling else 1)


def _check_range(values: Array, policy: Policy) -> None:
    """All images must exit at one end of the thresholds, and none early at the other."""
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    all_exit, none_exits = policy.threshold_all, policy.threshold_none
    if (high > all_exit or low <= none_exits) if policy.falling else (low < all_exit or high >= none_exits):
        raise ValueError(
            f"policy {policy.name!r} compares values from {low:g} to {high:g}; its threshold_all={all_exit:g} and "
            f"threshold_none={none_exits:g} must lie beyond them: set both, and grid"
        )


def tie_ends(ranked: Array) -> Array:
    """Where each group of ties ends in falling values, the last end being their number."""
    return np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > TIE) + 1, ranked.size)


def midway(ranked: Array, ends: Array, policy: Policy) -> Array:
    """Thresholds of ``policy`` between the groups that end at ``ends`` of falling `leaning` values.

    Exact in float32 (scores up to 15 lie below 1e-6 apart); between neighbouring numbers the larger one, which exits.
    """
    above, below = ranked[ends - 1], ranked[ends]
    between = ((above.astype(np.float64) + below) / 2).astype(np.float32)
    between = np.where(between > below, between, above)
    return np.asarray(between, np.float64) * (-1 if policy.falling else 1)


# Bases of most policies: thresholds that are real numbers on a score, and thresholds that count exits.

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
        return f"{number:g}" if number < NEVER else "more than there are exits"

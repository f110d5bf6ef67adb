"""Threshold sliders as numbers: for every position, the number of images that exit correct and incorrect at every exit.

In: a record, a policy (fitted on val where it learns) and thresholds. Out: `SliderCounts`. Counts are (G, 2K) integers
for G positions, correct and incorrect at exit 1, correct and incorrect at exit 2, …: what `Policy.exits` gives for
each. A browser can draw a moving slider from them without a call to Python. `exit_limits` does the same for single
images: (B, K−1) limits, where an image exits at the first exit whose slider is below the image's limit, else at the
last one.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting.temperature import scored_record
from ..policies.base import Policy, count_answers
from ..policies.rules import of_rows
from ..records.record import ExitRecord
from ..utils.typing import Array, Floats
from .metrics import trade_off

Counts = npt.NDArray[np.int64]
Limits = npt.NDArray[np.int64]
Part = tuple[ExitRecord, Policy]
STOPS = 80  # positions of a slider for one exit


@dataclass(frozen=True, eq=False)
class Slider:
    """One threshold slider: its positions, and the exit counts at each of them.

    Args:
        thresholds: G positions, from "all images exit" to "no image exits".
        counts: (G, 2K) int64, images that exit correct and incorrect at exit 1, correct and incorrect at exit 2, …
        class_counts: the same of the images of one class, or None.
        position: index of the policy's own threshold among ``thresholds``.

    Example:
        >>> two = Slider((0.0, 1.01), np.array([[7, 3, 0, 0], [0, 0, 9, 1]]), None)  # all at exit 1, none early
        >>> flops, accuracy = two.curve([0.5, 1.0])
        >>> flops.tolist(), accuracy.tolist()
        ([0.5, 1.0], [0.7, 0.9])
    """

    thresholds: tuple[float, ...]
    counts: Counts
    class_counts: Counts | None
    position: int = 0

    def curve(self, flops_fraction: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(G,) mean FLOPs fraction and (G,) accuracy at every position; ``flops_fraction`` (K,) is the record's."""
        answered = self.counts.reshape(len(self.counts), -1, 2)
        images = answered[0].sum()
        return answered.sum(axis=2) @ np.asarray(flops_fraction) / images, answered[..., 0].sum(axis=1) / images


@dataclass(frozen=True, eq=False)
class SliderCounts:
    """All numbers of the threshold sliders of one policy on one record.

    Args:
        sliders: one slider for one threshold, one per exit but the last for several thresholds, none
            for a record with a single exit.
        single: one threshold for all exits, the positions of the accuracy–FLOPs curve; it is ``sliders[0]`` where that
            is the only one.
        label: the class of ``class_counts``, 0-based, or None.
        rule, exit_positions: positions without the policy's own thresholds, as `slider_counts` takes them again:
            of the single threshold with counts, and of every exit.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> found = slider_counts(run.record("test"), dx.fit_policy(run.record("calibration"), threshold=0.9))
        >>> len(found.sliders), found.thresholds
        (1, (0.9,))
    """

    sliders: tuple[Slider, ...]
    single: Slider
    label: int | None
    rule: Slider
    exit_positions: tuple[tuple[float, ...], ...]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds at the sliders' positions."""
        return tuple(slider.thresholds[slider.position] for slider in self.sliders)


def slider_counts(
    record: ExitRecord,
    policy: Policy,
    *,
    label: int | None = None,
    points: int = 200,
    earlier: SliderCounts | None = None,
) -> SliderCounts:
    """Exit counts of the policy at every position of its threshold sliders.

    Positions of a single threshold come from `trade_off`: evenly spread over FLOPs, from "all images exit at exit 1" to
    "no image exits early". Positions of one exit's threshold are evenly spread over the images. The policy's own
    thresholds are positions too.

    Args:
        policy: with one threshold, or with one per exit but the last. If it learns, it has been fitted on another
            record.
        label: a class, 0-based, whose images are counted separately too.
        points: the largest number of positions of a single threshold.
        earlier: the result for the same record and policy with other thresholds or for another class. Its positions
            are used again, so that moving a threshold takes one pass over the record.

    Raises:
        ValueError: thresholds or what was learned do not fit the record; several thresholds of a policy that does not
            compare a score.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> policy = dx.fit_policy(run.record("calibration"), "confidence", flops=0.30)
        >>> seen = slider_counts(run.record("test"), policy)
        >>> (slider,) = seen.sliders
        >>> slider.thresholds[slider.position] == policy.thresholds[0]
        True
        >>> slider.counts.shape == (len(slider.thresholds), 2 * 6)
        True
        >>> int(slider.counts[slider.position, ::2].sum())  # correct, of 10,000 images
        9133
        >>> moved = slider_counts(run.record("test"), dx.fit_policy(run.record("val"), threshold=0.9), earlier=seen)
        >>> moved.thresholds
        (0.9,)
    """
    policy.check(record.n_exits)
    record = scored_record(record, policy)  # once, not for every position
    part: Part | None = None
    if label is not None:
        rows = np.flatnonzero(record.labels == label)
        part = record.subset(rows), of_rows(policy, rows)
    rule = _rule(record, policy, part, points) if earlier is None else earlier.rule
    if earlier is not None and earlier.label != label:
        rule = replace(rule, class_counts=None if part is None else single(*part, rule.thresholds))
    positions: tuple[tuple[float, ...], ...] = earlier.exit_positions if earlier is not None else ()
    if record.n_exits == 1:
        return SliderCounts((), rule, label, rule, positions)
    if len(policy.thresholds) == 1:
        only = _with_own(record, policy, part, rule)
        return SliderCounts((only,), only, label, rule, positions)
    positions = positions or tuple(tuple(found) for found in positions_of_exits(record, policy))
    sliders = _slider_per_exit(record, policy, part, positions)
    return SliderCounts(sliders, rule, label, rule, positions)


def _rule(record: ExitRecord, policy: Policy, part: Part | None, points: int) -> Slider:
    """Positions of a single threshold, as the policy keeps them."""
    found = trade_off(record, policy, points)["threshold"].tolist()
    kept = tuple(dict.fromkeys(replace(policy, thresholds=(t,)).thresholds[0] for t in found))
    return Slider(kept, single(record, policy, kept), None if part is None else single(*part, kept))


def _with_own(record: ExitRecord, policy: Policy, part: Part | None, rule: Slider) -> Slider:
    """``rule`` with the policy's threshold among its positions; a position with equal counts is replaced by it."""
    own, row = policy.thresholds[0], counts_of(record, policy.exits(record))
    answered = np.vstack([rule.counts, row]).reshape(len(rule.counts) + 1, -1, 2).sum(axis=2)
    flops = np.round(answered @ record.flops_fraction, 9)  # rounded so that float noise does not change the order
    place = int(np.searchsorted(flops[:-1], flops[-1]))
    thresholds = list(rule.thresholds)
    if place < len(thresholds) and np.array_equal(rule.counts[place], row):
        thresholds[place] = own
        return replace(rule, thresholds=tuple(thresholds), position=place)
    thresholds.insert(place, own)
    class_counts = rule.class_counts
    if part is not None and class_counts is not None:
        class_counts = np.insert(class_counts, place, counts_of(part[0], part[1].exits(part[0])), axis=0)
    return Slider(tuple(thresholds), np.insert(rule.counts, place, row, axis=0), class_counts, place)


def _slider_per_exit(
    record: ExitRecord, policy: Policy, part: Part | None, positions: Sequence[Sequence[float]]
) -> tuple[Slider, ...]:
    placed = [_with_value(found, own) for found, own in zip(positions, policy.thresholds, strict=True)]
    thresholds = [found for found, _ in placed]
    counts = each(record, policy, thresholds)
    classes: Sequence[Counts | None] = [None] * len(counts) if part is None else each(*part, thresholds)
    parts = zip(placed, counts, classes, strict=True)
    return tuple(Slider(tuple(found), mine, some, place) for (found, place), mine, some in parts)


def _with_value(positions: Sequence[float], value: float) -> tuple[list[float], int]:
    """Rising or falling ``positions`` with ``value`` among them, and its index; outside the ends it is the end."""
    sign = 1 if positions[0] < positions[-1] else -1
    place = bisect.bisect_left([sign * position for position in positions], sign * value)
    if place >= len(positions):
        return list(positions), len(positions) - 1
    if positions[place] == value or place == 0:
        return list(positions), place
    return [*positions[:place], value, *positions[place:]], place


def counts_of(record: ExitRecord, exits: Array) -> Counts:
    """(2K,) counts of one policy's exits (B,)."""
    return count_answers(record, exits).ravel()


def single(record: ExitRecord, policy: Policy, thresholds: Sequence[float]) -> Counts:
    """(G, 2K): ``policy`` with each of ``thresholds`` for all exits."""
    return policy.counts(record, thresholds).reshape(len(thresholds), -1)


def each(record: ExitRecord, policy: Policy, stops: Sequence[Sequence[float]]) -> list[Counts]:
    """For every exit but the last (G, 2K): its stops while the other exits keep ``policy``'s thresholds."""
    values, incorrect = leaning_values(record, policy), ~record.correct
    exiting = values >= comparison_levels(policy, [policy.threshold(k) for k in range(record.n_exits - 1)])
    nexts = np.full(record.n_images, record.n_exits - 1)  # exit of an image that does not exit at this one
    after = []
    for exit in reversed(range(exiting.shape[1])):
        after.append(nexts)
        nexts = np.where(exiting[:, exit], exit, nexts)
    columns, staying, found = 2 * record.n_exits, np.arange(record.n_images), []
    fixed = np.zeros(columns, np.int64)
    for exit, later in zip(range(exiting.shape[1]), reversed(after), strict=True):
        levels = comparison_levels(policy, stops[exit])
        order = np.argsort(levels)
        bucket = np.searchsorted(levels[order], values[staying, exit], side="right")  # exits at stop g if g < bucket
        size = (len(levels) + 1, columns)
        leaving = bucket * columns + 2 * exit + incorrect[staying, exit]
        going = bucket * columns + 2 * later[staying] + incorrect[staying, later[staying]]
        gone, kept = (np.bincount(what, minlength=size[0] * columns).reshape(size) for what in (leaving, going))
        counts = np.empty((len(levels), columns), np.int64)
        counts[order] = fixed + gone[::-1].cumsum(axis=0)[::-1][1:] + kept.cumsum(axis=0)[:-1]
        found.append(counts)
        now = exiting[staying, exit]
        fixed = fixed + np.bincount(2 * exit + incorrect[staying[now], exit], minlength=columns)
        staying = staying[~now]
    return found


def positions_of_exits(record: ExitRecord, policy: Policy) -> list[list[float]]:
    """Thresholds of every exit but the last alone, from "all images exit" to "no image exits".

    They are evenly spread over the images; at most `STOPS` and the two ends.
    """
    if not policy.per_exit_thresholds:
        raise ValueError(f"policy {policy.name!r} has no threshold for every exit that a slider could move")
    values, found = policy.values(record), []
    for k in range(record.n_exits - 1):
        spread = np.unique(np.quantile(values[:, k], np.linspace(0, 1, STOPS)).astype(np.float32))
        kept = {replace(policy, thresholds=(float(t),)).thresholds[0] for t in spread}
        inner = sorted(kept - {policy.threshold_all, policy.threshold_none}, reverse=policy.falling)
        found.append([policy.threshold_all, *inner, policy.threshold_none])
    return found


def leaning_values(record: ExitRecord, policy: Policy) -> Array:
    """(B, K−1) float64: the higher, the sooner an image exits; to be compared with `comparison_levels`."""
    return np.asarray(policy.values(record).astype(np.float64) * (-1 if policy.falling else 1))


def comparison_levels(policy: Policy, thresholds: Sequence[float]) -> Array:
    """Thresholds on the scale of `leaning_values`: an image exits at values of at least its level."""
    sign = -1 if policy.falling else 1
    return np.asarray(thresholds, np.float32).astype(np.float64) * sign


def exit_limits(record: ExitRecord, policy: Policy, positions: Sequence[Sequence[float]]) -> Limits | None:
    """For every image and exit but the last, the number of slider positions at which the image exits there or before.

    With one slider, image b at position g exits at the first exit k with ``g < limits[b, k]``. With a slider for every
    exit, at the first k with ``g[k] < limits[b, k]``: the other sliders do not matter.

    Args:
        policy: if it has temperatures, ``record`` should be that of `tempered_record`, so that it is tempered once.
        positions: thresholds of the one slider or of each exit's, from "all images exit" to "no image exits".

    Returns:
        (B, K−1) int64; None where some image exits earlier at a later position, so that no limit describes its exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), threshold=0.9)
        >>> stops = dx.analysis.slider_counts(record, policy).single.thresholds
        >>> limits = dx.analysis.exit_limits(record, policy, [stops])
        >>> bool(((stops.index(0.9) < limits[:, 0]) == (policy.exits(record) == 0)).all())
        True
    """
    if record.n_exits == 1:
        return np.zeros((record.n_images, 0), np.int64)
    falls = (bool((np.diff(comparison_levels(policy, stops)) >= 0).all()) for stops in positions)
    if policy.per_exit_thresholds and all(falls):
        return _score_limits(record, policy, positions)
    if len(positions) > 1:
        return None
    exits = exits_at(record, policy, positions[0])
    if (np.diff(exits.astype(np.int64), axis=0) < 0).any():
        return None
    return np.stack([(exits <= k).sum(axis=0) for k in range(record.n_exits - 1)], axis=1)


def exits_at(record: ExitRecord, policy: Policy, thresholds: Sequence[float]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(G, B) exit of every image, 0-based, at each of G single thresholds.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> exits_at(record, dx.fit_policy(record, threshold=0.9), (0.0, 1.01))[:, :3].tolist()
        [[0, 0, 0], [5, 5, 5]]
    """
    kind = np.min_scalar_type(record.n_exits)
    return np.stack([replace(policy, thresholds=(t,)).exits(record) for t in thresholds]).astype(kind)


def _score_limits(record: ExitRecord, policy: Policy, positions: Sequence[Sequence[float]]) -> Limits:
    values = leaning_values(record, policy)
    each = list(positions) if len(positions) > 1 else [positions[0]] * values.shape[1]
    columns = [
        np.searchsorted(comparison_levels(policy, stops), values[:, k], side="right") for k, stops in enumerate(each)
    ]
    limits = np.stack(columns, axis=1).astype(np.int64)
    return limits if len(positions) > 1 else np.maximum.accumulate(limits, axis=1)

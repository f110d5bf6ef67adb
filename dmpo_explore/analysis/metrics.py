"""Metrics of a policy on a record: accuracy and its interval, FLOPs, exit shares, bootstrap intervals of differences.

In: an `ExitRecord` (of ``test``) and exits (B,) or a policy. Out: plain numbers and tables. Overthinking is defined by
Kaya et al. (2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..fitting.fit import realised_flops, sweep
from ..fitting.temperature import scored_record
from ..policies.base import Policy
from ..records.record import ExitRecord, may_be_same_images
from ..utils.typing import Array, Bools, Floats, Ints, at_exits

FEW = 20  # answers that differ: with fewer, resampled ones say little of other images


def summarise(record: ExitRecord, exits: npt.ArrayLike) -> dict[str, Any]:
    """Accuracy, FLOPs and exit shares of one policy in plain numbers.

    Args:
        exits: (B,) 0-based exit of every image, as `Policy.exits` gives it.

    Returns:
        ``images``; ``accuracy``; ``full_accuracy`` (of the last exit); ``accuracy_drop`` (their difference);
        ``balanced_accuracy`` (mean over classes, see `balanced_accuracy`); ``flops_fraction`` (mean realised);
        ``mean_exit`` (counted from 1); K ``exit_shares``, ``exit_accuracy`` and ``exit_balanced_accuracy`` (of each
        exit on all images). Shares of images: ``changed`` (another prediction than the last exit's), ``overthought``
        (overthinking: incorrect, and an earlier exit is correct), ``too_early`` (early-exit error: incorrect, and the
        last exit is correct).

    Raises:
        ValueError: exits of another length or outside the record's.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> numbers = dx.summarise(record, np.zeros(record.n_images, int))  # all images exit at exit 1
        >>> round(numbers["accuracy"], 4), numbers["mean_exit"], numbers["exit_shares"]
        (0.8932, 1.0, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """
    exits = checked_exits(record, exits)
    if not record.n_images:
        raise ValueError("a record without images has no accuracy; choose images of it")
    counts = np.bincount(exits, minlength=record.n_exits)
    every, prediction = record.correct, at_exits(record.prediction, exits)
    correct = prediction == record.labels
    accuracy, full = float(correct.mean()), float(every[:, -1].mean())
    return {
        "images": record.n_images,
        "accuracy": accuracy,
        "full_accuracy": full,
        "accuracy_drop": full - accuracy,
        "balanced_accuracy": float(balanced_accuracy(correct, record.labels)),
        "flops_fraction": float(realised_flops(counts, record)),
        "mean_exit": float(exits.mean()) + 1,
        "exit_shares": (counts / record.n_images).tolist(),
        "exit_accuracy": every.mean(axis=0).tolist(),
        "exit_balanced_accuracy": balanced_accuracy(every, record.labels).tolist(),
        "changed": float((prediction != record.prediction[:, -1]).mean()),
        "overthought": float(overthinking(record, exits).mean()),
        "too_early": float((~correct & every[:, -1]).mean()),
    }


def checked_exits(record: ExitRecord, exits: npt.ArrayLike) -> Ints:
    """Exits (B,) of a record's images; ValueError for another length or type, or an exit that the record lacks."""
    found = np.asarray(exits)
    if found.shape != (record.n_images,) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"exits of shape {found.shape} and type {found.dtype} must be {record.n_images} integers")
    if found.size and (found.min() < 0 or found.max() >= record.n_exits):
        raise ValueError(f"exits from {found.min()} to {found.max()} must lie in 0 to {record.n_exits - 1}")
    return found


def balanced_accuracy(correct: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Mean over the classes that have images of the share of their images that is correct.

    For two classes that of Brodersen et al. (2010); for more, as in scikit-learn, the mean recall.

    Args:
        correct: (B,) or (B, K) bool. labels: (B,) 0-based classes.

    Returns:
        A 0-d array, or (K,) one value per exit.

    Raises:
        ValueError: no images, labels of another number of images, or ``correct`` that is not bool.

    Example:
        >>> balanced_accuracy([True, True, True, False], [0, 0, 0, 1]).tolist()  # accuracy: 0.75
        0.5
    """
    found, classes = np.asarray(correct), np.asarray(labels)
    if found.ndim not in (1, 2) or found.dtype != bool:
        raise ValueError(
            f"correct {found.shape} of type {found.dtype} must be (B,) or (B, K) bool, such as record.correct"
        )
    if classes.shape != found.shape[:1] or not classes.size:
        raise ValueError(f"labels {classes.shape} must be ({len(found)},), one per image, and at least one")
    counts = np.bincount(classes)
    weights = 1 / counts[classes] / (counts > 0).sum()
    return np.asarray(weights @ found)


def overthinking(record: ExitRecord, exits: npt.ArrayLike) -> Bools:
    """(B,) whether an image is incorrect at its exit although an earlier exit is correct (Kaya et al. 2019)."""
    correct, places = record.correct, np.asarray(exits)
    earlier = (correct & (np.arange(record.n_exits) < places[:, None])).any(axis=1)
    return np.asarray(~at_exits(correct, places) & earlier)


def trade_off(record: ExitRecord, policy: str | Policy = "confidence", points: int | None = 200) -> pd.DataFrame:
    """The accuracy–FLOPs curve of a policy: its single threshold from "all exit at exit 1" to "none exits early".

    Args:
        policy: one of `POLICIES`, or a policy that is fitted already. Its temperatures and what it learned are kept
            while its threshold moves. The name of a policy that ``learns`` is refused on test, see `sweep`.
        points: the largest number of rows, evenly spread over FLOPs, both ends kept; None for every distinct setting.

    Returns:
        ``threshold``, ``accuracy``, ``flops_fraction``, ``mean_exit`` (counted from 1), sorted by ``flops_fraction``.

    Raises:
        ValueError: fewer than 2 points; as `sweep`.

    Example:
        >>> import dmpo_explore as dx
        >>> table = dx.trade_off(dx.load_run("fashion").record("test"), "confidence", points=5)
        >>> table["mean_exit"].round(2).tolist()
        [1.0, 2.25, 3.5, 4.33, 6.0]
    """
    swept = sweep(record, policy)
    rows = np.arange(len(swept.thresholds))
    if points is not None:
        if points < 2:
            raise ValueError(f"points={points} must be at least 2 (both ends), or None for all")
        wanted = np.linspace(swept.flops_fraction[0], swept.flops_fraction[-1], points)
        above = np.searchsorted(swept.flops_fraction, wanted).clip(1, max(rows[-1], 1)).clip(max=rows[-1])
        below = np.maximum(above - 1, 0)
        nearer = wanted - swept.flops_fraction[below] < swept.flops_fraction[above] - wanted
        rows = np.unique(np.where(nearer, below, above))
    exit_numbers = np.arange(1, record.n_exits + 1)
    table = {
        "threshold": swept.thresholds[rows],
        "accuracy": swept.correct[rows] / record.n_images,
        "flops_fraction": swept.flops_fraction[rows],
        "mean_exit": swept.exit_counts[rows] @ exit_numbers / record.n_images,
    }
    return pd.DataFrame(table)


def area(record: ExitRecord, policy: str = "confidence") -> float:
    """Area under the accuracy–FLOPs curve (trapezoids over every distinct setting), divided by its width.

    It is the mean accuracy over budgets spread evenly from "all exit at exit 1" to "none exits early", in [0, 1]. Ours.
    Compare it between epochs of one model only: other exits or FLOPs have another range of budgets. With one exit it is
    the accuracy.

    Example:
        >>> import dmpo_explore as dx
        >>> round(area(dx.load_run("fashion").record("test")), 4)
        0.9141
    """
    swept = sweep(record, policy)
    flops, accuracy = swept.flops_fraction, swept.correct / record.n_images
    width = float(flops[-1] - flops[0])
    return float(np.trapezoid(accuracy, flops)) / width if width > 0 else float(accuracy[-1])


def one_answer(record: ExitRecord) -> list[str]:
    """A sentence for every exit that gives all images the same class, of several: it has learned nothing."""
    if record.labels.min() == record.labels.max():
        return []
    names, found = record.meta.class_names, record.prediction
    dull = [k for k, (low, high) in enumerate(zip(found.min(axis=0), found.max(axis=0), strict=True)) if low == high]
    return [f"exit {k + 1} calls every image {names[found[0, k]]!r}: it has learned nothing" for k in dull]


def accuracy_interval(correct: npt.ArrayLike) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (Wilson 1927): the accuracies on all such images that fit these ones.

    It covers the choice of the test images, not that of the training.

    Args:
        correct: (B,) bool, image by image.

    Returns:
        its lower and upper end, as fractions.

    Raises:
        ValueError: no images, another shape, or an array that is not bool.

    Example:
        >>> low, high = accuracy_interval([True] * 22 + [False] * 12)  # 64.7 % of 34 images
        >>> round(low, 3), round(high, 3)
        (0.479, 0.785)
    """
    from scipy.special import ndtri

    found = np.asarray(correct)
    if found.ndim != 1 or not found.size or found.dtype != bool:
        raise ValueError(f"correct {found.shape} of type {found.dtype} must be (B,) bool, of at least one image")
    n, share, z2 = found.size, float(found.mean()), float(ndtri(0.975)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def bootstrap_difference(
    correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Accuracy of a minus accuracy of b on the same images, with its paired 95 % interval.

    The interval is a percentile bootstrap over the images. Where fewer than 20 images are correct for one and incorrect
    for the other, that would be too narrow (without any, zero): there it is Bonett and Price's (2012), a Wald interval
    with one such image of each kind added. That of identical answers is not empty: other images may tell the two apart.

    Args:
        correct_a, correct_b: (B,) bool, image by image. n: resamples.

    Returns:
        difference and the interval's ends, as fractions.

    Raises:
        ValueError: other lengths, no images, or arrays that are not bool.

    Example:
        >>> import dmpo_explore as dx
        >>> correct = dx.load_run("fashion").record("test").correct
        >>> difference, low, high = dx.bootstrap_difference(correct[:, -1], correct[:, 0])
        >>> low < difference < high, round(difference, 4)
        (True, 0.0215)
        >>> four = np.arange(34) < 4  # of 34 images that only one of two models has correct
        >>> [round(value, 3) for value in dx.bootstrap_difference(four, np.zeros(34, bool))]
        [0.118, -0.017, 0.239]
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(
            f"correct_a {a.shape} and correct_b {b.shape} must be (B,), the same images in the same order: "
            "``correct`` of two outcomes of `dx.apply`, or a column of ``record.correct``"
        )
    if a.dtype != bool or b.dtype != bool:
        raise ValueError(f"correct_a and correct_b must be bool, not {a.dtype} and {b.dtype}")
    difference = a.astype(np.int64) - b  # -1, 0 or 1, so a resample is a multinomial draw
    counts = np.bincount(difference + 1, minlength=3)
    if counts[0] + counts[2] < FEW:
        return float(difference.mean()), *_bonett_price(int(counts[2]), int(counts[0]), a.size)
    draws = np.random.default_rng(seed).multinomial(a.size, counts / a.size, size=n)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / a.size, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def _bonett_price(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """95 % interval of a paired difference of shares, of ``n`` images (Bonett and Price 2012)."""
    from scipy.special import ndtri

    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = float(ndtri(0.975)) * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return max(-1.0, a - b - half), min(1.0, a - b + half)


def seeds_interval(differences: npt.ArrayLike, *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences over several trainings, with its interval (95 %) for crossed random effects.

    Trainings and images are both a sample. The half-width is the root of two squares: that of Student's interval over
    the trainings' means (three trainings show little of their spread: the quantile is 4.3), and that of an interval
    over what an image has in common in all trainings, by the mean squares of a two-way layout. It is never narrower
    than Student's interval over the images, as it would be where few trainings agree by chance. Ours: the sum of the
    squares and that bound. In simulations it covers 95 to 99 %, and 90 to 99 % where trainings' effects
    are skewed (`scripts/bench interval_coverage`).

    Args:
        differences: (S, B), of S trainings (seeds) on the same B images, at least two values. With one training the
            interval is Student's over the images.
        level: share of the studies that the interval is to hold the difference in.

    Returns:
        mean and the interval's ends, in the unit of ``differences``.

    Raises:
        ValueError: an array of other dimensions, fewer than two values, or a level outside (0, 1).

    Example:
        Three trainings whose means are 0.0, 0.5 and 1.0, on two images that are alike:

        >>> import dmpo_explore as dx
        >>> mean, low, high = dx.analysis.seeds_interval([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
        >>> round(mean, 2), round(low, 2), round(high, 2)
        (0.5, -0.74, 1.74)
    """
    from scipy.special import stdtrit

    values = np.asarray(differences, np.float64)
    if values.ndim != 2 or values.size < 2 or not 0 < level < 1:
        raise ValueError(
            f"differences {values.shape} must be (S, B): a row per training, a column per image, at least two values; "
            f"level={level!r} must lie between 0 and 1"
        )
    S, B = values.shape
    mean, of_trainings, of_images = values.mean(), values.mean(axis=1), values.mean(axis=0)
    trainings = images = alone = 0.0  # squares of half-widths; alone: what images do not have in common
    if S > 1:
        trainings = stdtrit(S - 1, (1 + level) / 2) ** 2 * of_trainings.var(ddof=1) / S
    if B > 1:
        quantile = stdtrit(B - 1, (1 + level) / 2)
        images = quantile**2 * of_images.var(ddof=1) / B
        left = values - of_trainings[:, None] - of_images + mean
        alone = quantile**2 * (left**2).sum() / max(1, S - 1) / (B - 1) / (S * B)
    half = math.sqrt(max(images, trainings + max(0.0, images - alone)))
    return float(mean), float(mean - half), float(mean + half)


def _says_correct(values: npt.NDArray[Any]) -> bool:
    return values.dtype == bool or (values.dtype.kind == "f" and bool(((values >= 0) & (values <= 1)).all()))


def gain(question: str, more: npt.ArrayLike, less: npt.ArrayLike) -> dict[str, float | str]:
    """Points of accuracy that one model is ahead of another: a row for `figures.gains_figure`.

    Args:
        question: the row's name. more, less: (S, B) bool, which of the same B images S trainings of each model have
            correct, or the share of several answers that are, from 0 to 1; the rows of a pair have the same seed.

    Returns:
        question, points, low and high (`seeds_interval`), seeds (the points of each, as text), and over: what the
        interval is over, images alone with one training.

    Raises:
        ValueError: arrays of other shapes, or neither bool nor from 0 to 1.

    Example:
        >>> row = gain("ours over theirs", [[True, True], [True, False]], [[True, False], [False, False]])
        >>> row["points"], row["seeds"], row["over"]
        (50.0, '+50.00 +50.00', 'images and trainings')
    """
    a, b = np.asarray(more), np.asarray(less)
    if a.shape != b.shape or a.ndim != 2 or not all(map(_says_correct, (a, b))):
        raise ValueError(
            f"more {a.shape} of type {a.dtype} and less {b.shape} of type {b.dtype} must be (S, B) bool, or shares "
            "from 0 to 1: a row per training, a column per image, the same ones in both"
        )
    points = 100 * (a.astype(np.float64) - b)
    mean, low, high = seeds_interval(points)
    seeds = " ".join(f"{value:+.2f}" for value in points.mean(axis=1))
    over = "images and trainings" if len(points) > 1 else "images"
    return {"question": question, "points": mean, "low": low, "high": high, "seeds": seeds, "over": over}


# Outcome: a policy applied to a record, image by image.
#
# In: a fitted policy and an `ExitRecord`. Out: `Outcome`, the exit of every image and the model's prediction there.
# `parts` compares two of them.


@dataclass(frozen=True, eq=False)
class Outcome:
    """The exit of each of B images and the prediction there. Arrays are computed on first use.

    Args:
        record: the record that the policy was applied to, with the scores that the policy reads. exits: (B,) 0-based
            exit of every image.

    Raises:
        ValueError: exits of another length or outside the record's.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> last = dx.Outcome(record, np.full(record.n_images, record.n_exits - 1))  # every image at the last exit
        >>> round(float(last.correct.mean()), 4), round(last.summary()["flops_fraction"], 3)
        (0.9147, 1.028)
    """

    record: ExitRecord
    exits: Ints

    def __post_init__(self) -> None:
        object.__setattr__(self, "exits", checked_exits(self.record, self.exits))

    @cached_property
    def prediction(self) -> Array:
        """(B,) the class predicted at each image's exit."""
        return self.at_exits(self.record.prediction)

    @cached_property
    def correct(self) -> Bools:
        """(B,) whether that prediction is correct."""
        return np.asarray(self.prediction == self.record.labels)

    @cached_property
    def confidence(self) -> Array:
        """(B,) max softmax probability at each image's exit."""
        return self.at_exits(self.record.confidence)

    @cached_property
    def flops_fraction(self) -> Floats:
        """(B,) FLOPs of each image, everything that ran counted, as a fraction of ``reference_flops``."""
        return np.asarray(self.record.flops_fraction[self.exits])

    @cached_property
    def early_exit_error(self) -> Bools:
        """(B,) incorrect at its exit, correct at the last exit."""
        return np.asarray(~self.correct & self.record.correct[:, -1])

    @cached_property
    def overthinking(self) -> Bools:
        """(B,) incorrect at its exit, correct at an earlier exit (Kaya et al. 2019)."""
        return overthinking(self.record, self.exits)

    def at_exits(self, values: npt.ArrayLike) -> Array:
        """(B, K, …) values of every exit → (B, …) those of each image's exit."""
        return at_exits(values, self.exits)

    def summary(self) -> dict[str, Any]:
        """Accuracy, FLOPs and exit shares in plain numbers; see `summarise`."""
        return summarise(self.record, self.exits)


def apply(policy: Policy, record: ExitRecord) -> Outcome:
    """The outcome of a fitted policy on a record, which should not be the one it was fitted on.

    Of a policy with temperatures the outcome's record and confidences are those at its temperatures, as in `infer`.

    Raises:
        ValueError: thresholds, temperatures or what was learned do not fit the record's exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> policy = dx.fit_policy(run.record("calibration"), "confidence", flops=0.30)
        >>> outcome = dx.apply(policy, run.record("test"))
        >>> outcome.exits.shape == outcome.correct.shape == (10000,)
        True
        >>> round(outcome.summary()["accuracy"], 4)
        0.9133
    """
    scored = scored_record(record, policy)
    return Outcome(scored, policy.exits(scored))


def parts(a: Outcome, b: Outcome) -> dict[str, Bools]:
    """Kind of disagreement → (B,) mask: correct in ``a`` only, in ``b`` only, incorrect in both and different.

    The kinds do not overlap, and every image with two different predictions has one of them.

    Raises:
        ValueError: outcomes of different images.

    Example:
        >>> import dmpo_explore as dx
        >>> record, val = (dx.load_run("demo").record(split) for split in ("test", "val"))
        >>> a, b = (dx.apply(dx.fit_policy(val, flops=flops), record) for flops in (0.3, 0.6))
        >>> sorted(parts(a, b))
        ['both wrong', 'only a', 'only b']
        >>> bool(parts(a, a)["only a"].any())
        False
    """
    check_same_images({"a": a, "b": b})
    different = np.asarray(a.prediction != b.prediction)
    return {
        "only a": a.correct & ~b.correct,
        "only b": b.correct & ~a.correct,
        "both wrong": ~a.correct & ~b.correct & different,
    }


def check_same_images(outcomes: Mapping[str, Outcome]) -> None:
    """Raise ValueError unless all outcomes are of the same images, as far as their records tell; names are given."""
    for (name, one), (other, second) in combinations(outcomes.items(), 2):
        if not may_be_same_images(one.record, second.record):
            raise ValueError(f"the outcomes of {name} and {other} are of different images; apply both to one split")


# Metrics by class: a table with a row per class, and the best and worst of many classes.


def class_metrics(outcome: Outcome) -> pd.DataFrame:
    """A row per class: images, accuracy, mean exit and FLOPs at the operating point, accuracy of every exit.

    Returns:
        ``class`` (its name), ``images``, ``accuracy``, ``mean_exit`` (counted from 1), ``flops_fraction``,
        ``accuracy_1`` … ``accuracy_K`` (of each exit on all images of the class), in the order of the classes. The
        fractions of a class without images are NaN.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> table = dx.analysis.class_metrics(dx.Outcome(record, np.zeros(record.n_images, int)))
        >>> table.nsmallest(1, "accuracy")[["class", "images", "mean_exit"]].values.tolist()
        [['Shirt', 1000, 1.0]]
    """
    record = outcome.record
    names, labels, K = record.meta.class_names, record.labels, record.n_exits
    counts = np.bincount(labels, minlength=len(names))

    def mean(values: npt.ArrayLike) -> Floats:
        sums = np.bincount(labels, weights=np.asarray(values, np.float64), minlength=len(names))
        shares: Floats = np.divide(sums, counts, out=np.full(len(names), np.nan), where=counts > 0)
        return shares

    return pd.DataFrame(
        {
            "class": list(names),
            "images": counts,
            "accuracy": mean(outcome.correct),
            "mean_exit": mean(outcome.exits + 1),
            "flops_fraction": mean(outcome.flops_fraction),
            **{f"accuracy_{k + 1}": mean(record.correct[:, k]) for k in range(K)},
        }
    )


def best_and_worst(values: Sequence[float] | Floats, n: int = 10) -> tuple[list[int], list[int]]:
    """Places of the ``n`` largest and the ``n`` smallest values, largest and smallest first; NaN is left out.

    Up to 2 ``n`` values are all among the largest, and none among the smallest.

    Example:
        >>> best_and_worst([0.5, 0.9, 0.1, 0.7, 0.3], n=2)
        ([1, 3], [2, 4])
        >>> best_and_worst([0.5, 0.9, 0.1], n=2)
        ([1, 0, 2], [])
    """
    found = np.asarray(values, np.float64)
    falling = np.argsort(-found, kind="stable")[: int(np.isfinite(found).sum())]
    if len(falling) <= 2 * n:
        return falling.tolist(), []
    rising = np.argsort(found, kind="stable")
    return falling[:n].tolist(), rising[:n].tolist()

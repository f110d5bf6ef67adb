"""What a policy is worth on a record: accuracy, compute, who left where, and how sure the differences are.

In: an `ExitRecord` (of ``test``) and exits (B,) or a policy's name. Out: plain numbers and tables. Overthinking is the
word of Kaya et al. (2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..fitting.sweep import realised_flops, sweep
from ..policies.base import Policy
from ..records.record import ExitRecord


def summarise(record: ExitRecord, exits: npt.ArrayLike) -> dict[str, Any]:
    """One policy's result in plain numbers.

    Args:
        exits: (B,) 0-based exit of every image, as `Policy.exits` gives it.

    Returns:
        ``images``; ``accuracy``; ``full_accuracy`` (last exit for all); ``accuracy_drop`` (their difference);
        ``flops_fraction`` (mean realised); ``mean_exit`` (counted from 1); K ``exit_shares`` and ``exit_accuracy``
        (each exit asked about every image); shares of images: ``changed`` (another label than the last exit's),
        ``overthought`` (wrong, and an earlier exit was right), ``too_early`` (wrong, and the last exit is right).

    Raises:
        ValueError: exits of another length or outside the record's.
    """
    exits = np.asarray(exits)
    if exits.shape != (record.n_images,) or not np.issubdtype(exits.dtype, np.integer):
        raise ValueError(f"exits of shape {exits.shape} and type {exits.dtype} must be {record.n_images} integers")
    if exits.min() < 0 or exits.max() >= record.n_exits:
        raise ValueError(f"exits from {exits.min()} to {exits.max()} must lie in 0 to {record.n_exits - 1}")
    counts = np.bincount(exits, minlength=record.n_exits)
    correct, rows = record.correct, np.arange(record.n_images)
    right = correct[rows, exits]
    earlier = (correct & (np.arange(record.n_exits) < exits[:, None])).any(axis=1)
    accuracy, full = float(right.mean()), float(correct[:, -1].mean())
    return {
        "images": record.n_images,
        "accuracy": accuracy,
        "full_accuracy": full,
        "accuracy_drop": full - accuracy,
        "flops_fraction": float(realised_flops(counts, record)),
        "mean_exit": float(exits.mean()) + 1,
        "exit_shares": (counts / record.n_images).tolist(),
        "exit_accuracy": correct.mean(axis=0).tolist(),
        "changed": float((record.prediction[rows, exits] != record.prediction[:, -1]).mean()),
        "overthought": float((~right & earlier).mean()),
        "too_early": float((~right & correct[:, -1]).mean()),
    }


def trade_off(record: ExitRecord, name: str | Policy = "confidence", points: int | None = 200) -> pd.DataFrame:
    """Accuracy over compute as one threshold moves from "all leave at exit 1" to "none leaves early".

    Args:
        name: one of `POLICIES`, or a policy whose temperatures and what it learned are kept while its threshold moves
            (a name that ``learns`` is taken on val only, see `sweep`).
        points: at most so many rows, evenly spread over compute, both ends kept; None for every distinct setting.

    Returns:
        ``threshold``, ``accuracy``, ``flops_fraction``, ``mean_exit`` (counted from 1), sorted by ``flops_fraction``.
    """
    swept = sweep(record, name)
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


def area(record: ExitRecord, name: str = "confidence") -> float:
    """Area under the accuracy–FLOPs curve (trapezoids over every distinct setting), divided by its width.

    So it is the mean accuracy over budgets spread evenly from "all leave at exit 1" to "none leaves early", in [0, 1].
    Ours. Compare it between epochs of one model: other exits or costs make another range of budgets. With one exit it
    is the accuracy.
    """
    swept = sweep(record, name)
    flops, accuracy = swept.flops_fraction, swept.correct / record.n_images
    width = float(flops[-1] - flops[0])
    return float(np.trapezoid(accuracy, flops)) / width if width > 0 else float(accuracy[-1])


def bootstrap_difference(
    correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Accuracy of a minus accuracy of b on the same images, with a paired bootstrap interval.

    Args:
        correct_a, correct_b: (B,) bool, image by image. n: resamples.

    Returns:
        difference and the 2.5 % and 97.5 % quantiles, as fractions.

    Raises:
        ValueError: other lengths, no images, or anything but right and wrong.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"correct_a {a.shape} and correct_b {b.shape} must be (B,), the same images in the same order")
    if a.dtype != bool or b.dtype != bool:
        raise ValueError(f"correct_a and correct_b must be bool, not {a.dtype} and {b.dtype}")
    difference = a.astype(np.int64) - b  # -1, 0 or 1, so a resample is a multinomial draw
    shares = np.bincount(difference + 1, minlength=3) / a.size
    draws = np.random.default_rng(seed).multinomial(a.size, shares, size=n)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / a.size, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)

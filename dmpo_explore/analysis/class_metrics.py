"""Metrics by class: a table with a row per class, and the best and worst of many classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..utils.typing import Floats
from .outcome import Outcome


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

"""Sweep of one threshold over a record: every distinct outcome.

In: an `ExitRecord` and a policy (a name, or one fitted on val). Out: a `Sweep`: thresholds, exit counts, correct
predictions and FLOPs, from the cheapest setting to the most expensive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..policies.base import Policy
from ..policies.catalogue import learned_policy
from ..records.record import ExitRecord
from ..utils.typing import Array


@dataclass(frozen=True, eq=False)
class Sweep:
    """The outcome of every useful single threshold on a record, from the cheapest setting to the most expensive.

    Args:
        thresholds: (G,). exit_counts: (G, K) int64, images that exit at each exit. correct: (G,) int64, correct
            predictions. flops_fraction: (G,) mean realised FLOPs relative to ``reference_flops``, rising.

    Example:
        >>> import dmpo_explore as dx
        >>> swept = sweep(dx.load_run("demo").record("val"), "confidence")
        >>> bool((np.diff(swept.flops_fraction) > 0).all())
        True
    """

    thresholds: Array
    exit_counts: Array
    correct: Array
    flops_fraction: Array


def sweep(record: ExitRecord, policy: str | Policy = "confidence") -> Sweep:
    """Every distinct outcome of one threshold on ``record``, O(BK log BK).

    In the first setting all images exit at exit 1, in the last one no image exits early. Values closer than `TIE` exit
    together. Of more than `MOST_SORTED` values a score's thresholds are edges of bins (`binned_values`): not every
    outcome, but exact ones.

    Args:
        policy: a name, or a policy whose temperatures and what it learned are kept while its threshold moves. A policy
            that ``learns`` does so on this record if only its name is given; not on ``test``.

    Raises:
        ValueError: no images, unknown policy, or one that would learn on ``test``.

    Example:
        >>> import dmpo_explore as dx
        >>> swept = sweep(dx.load_run("fashion").record("val"), "patience")
        >>> swept.thresholds.tolist(), swept.exit_counts[0].tolist()
        ([0, 1, 2, 3, 4, 5], [5000, 0, 0, 0, 0, 0])
    """
    if not record.n_images:
        raise ValueError("a record without images has no trade-off; choose images of it")
    found = (learned_policy(record, policy) if isinstance(policy, str) else policy).candidates(record)
    flops = realised_flops(found.exit_counts, record)
    order = np.argsort(flops, kind="stable")  # on another record a larger share need not cost more
    return Sweep(found.thresholds[order], found.exit_counts[order], found.correct[order], flops[order])


def realised_flops(counts: Any, record: ExitRecord) -> Array:
    """Mean FLOPs fraction (...,) when ``counts`` (..., K) images exit at each exit.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("val")
        >>> bool(realised_flops([5000, 0, 0, 0, 0, 0], record) == record.flops_fraction[0])
        True
    """
    counts = np.asarray(counts)
    return np.asarray((counts * record.flops_fraction).sum(axis=-1) / counts.sum(axis=-1))

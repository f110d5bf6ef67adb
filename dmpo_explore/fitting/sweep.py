"""Every outcome that one threshold can have on a record.

In: an `ExitRecord` and a policy (a name, or one fitted on val). Out: a `Sweep`: thresholds, who leaves where,
right answers and cost. Ours: thresholds lie midway between neighbouring values, and values closer than `TIE` count as
tied and leave together, so that float noise of another batch size or device cannot decide. Where very many values
crowd (confidence near 1 of an overconfident model) ties form long chains and settings grow coarse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..policies.base import Policy
from ..policies.catalogue import learned_policy
from ..policies.learned import SHARES, BudgetedPolicy
from ..policies.ranking import leaning, midway, tie_ends
from ..policies.scalar import ScorePolicy
from ..records.record import ExitRecord
from ..utils.typing import Array


@dataclass(frozen=True, eq=False)
class Sweep:
    """What every useful single threshold would do on a record, from the cheapest setting to the dearest.

    Args:
        thresholds: (G,). exit_counts: (G, K) int64, images leaving at each exit. correct: (G,) int64, right answers.
        flops_fraction: (G,) mean realised cost, rising.
    """

    thresholds: Array
    exit_counts: Array
    correct: Array
    flops_fraction: Array


def sweep(record: ExitRecord, policy: str | Policy = "confidence") -> Sweep:
    """Every distinct outcome of one threshold on ``record``, O(BK log BK).

    In the first setting everybody leaves at exit 1, in the last one nobody before the last exit. Ties as in `TIE`.

    Args:
        policy: a name, or a policy whose temperatures and what it learned are kept while its threshold moves. A rule
            that ``learns`` does so on this record if only its name is given; not on ``test``.

    Raises:
        ValueError: unknown policy, or one that would learn on ``test``.
    """
    asked = learned_policy(record, policy) if isinstance(policy, str) else policy
    settings: list[Any] | None = asked.settings(record.n_exits)
    if settings is None and isinstance(asked, BudgetedPolicy):
        settings = [float(s) for s in SHARES] if record.n_exits > 1 else [asked.threshold_all]
    if settings is not None:
        return _sweep_settings(record, asked, settings)
    assert isinstance(asked, ScorePolicy)
    return _sweep_values(record, asked)


def _sweep_settings(record: ExitRecord, policy: Policy, settings: list[Any]) -> Sweep:
    exits = np.stack([replace(policy, thresholds=(t,)).exits(record) for t in settings])  # (G, B)
    exit_counts = np.stack([np.bincount(row, minlength=record.n_exits) for row in exits])
    correct = record.correct[np.arange(record.n_images), exits].sum(axis=1)
    flops = realised_flops(exit_counts, record)
    order = np.argsort(flops, kind="stable")  # on another record a larger share need not cost more
    return Sweep(np.array(settings)[order], exit_counts[order], correct[order], flops[order])


def _sweep_values(record: ExitRecord, policy: ScorePolicy) -> Sweep:
    early, right = record.n_exits - 1, record.correct.astype(np.int8)
    best = np.maximum.accumulate(leaning(record, policy), axis=1)  # leaves by exit k if best[:, k] ≥ threshold
    order = np.argsort(best, axis=None)[::-1]  # all (image, exit) pairs, the first to leave first
    pairs = best.ravel()[order]
    ends = tie_ends(pairs) if pairs.size else np.zeros(0, np.int64)  # pairs that have left with each group of ties
    cells = np.repeat(np.arange(0, len(ends) * early, max(early, 1)), np.diff(ends, prepend=0))  # group · early + exit
    cells += order % max(early, 1)
    left = np.bincount(cells, minlength=len(ends) * early).reshape(len(ends), early).cumsum(axis=0)  # gone by exit k
    gains = np.add.reduceat((right[:, :-1] - right[:, 1:]).ravel()[order], np.append(0, ends)[:-1], dtype=np.int64)
    # from everybody, who leaves with the last group, to nobody
    exit_counts = np.diff(np.insert(left, 0, 0, axis=0)[::-1], axis=1, prepend=0, append=record.n_images)
    correct = right[:, -1].sum(dtype=np.int64) + np.append(0, np.cumsum(gains))[::-1]
    between = midway(pairs, ends[:-1][::-1], policy)
    thresholds = np.concatenate([[policy.threshold_all], between, [policy.threshold_none]])[-len(exit_counts) :]
    return Sweep(thresholds, exit_counts, correct, realised_flops(exit_counts, record))


def realised_flops(counts: Any, record: ExitRecord) -> Array:
    """Mean FLOPs fraction (...,) when ``counts`` (..., K) images leave at each exit."""
    counts = np.asarray(counts)
    return np.asarray((counts * record.flops_fraction).sum(axis=-1) / counts.sum(axis=-1))

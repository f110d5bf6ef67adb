"""Every outcome that one threshold can have on a record.

In: an `ExitRecord` and a policy (a name, or one fitted on val). Out: a `Sweep`: thresholds, who leaves where,
right answers and cost. Ours: thresholds lie midway between neighbouring values, and values closer than `TIE` count as
tied and leave together, so that float noise of another batch size or device cannot decide. Where very many values
crowd (confidence near 1 of an overconfident model) ties form long chains and settings grow coarse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..policies.base import ByScore
from ..policies.catalogue import POLICIES, BudgetedPolicy, ConfidencePolicy, GatePolicy, Policy
from ..policies.learned import gate_target, learn_gate
from ..records.record import ExitRecord
from ..utils.registry import lookup

TIE = 1e-6  # float noise between batch sizes reaches 4e-7
SHARES = np.linspace(0, 1, 51)  # settings of `BudgetedPolicy`

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sweep:
    """What every useful single threshold would do on a record, from the cheapest setting to the dearest.

    Args:
        thresholds: (G,). shares: (G, K) int64, images leaving at each exit. correct: (G,) int64, right answers.
        flops_fraction: (G,) mean realised cost, rising.
    """

    thresholds: Array
    shares: Array
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
        settings = [float(s) for s in SHARES] if record.n_exits > 1 else [asked.everybody]
    if settings is not None:
        return _sweep_settings(record, asked, settings)
    assert isinstance(asked, ByScore)
    return _sweep_values(record, asked)


def learned_policy(record: ExitRecord, name: str, temperatures: tuple[float, ...] = ()) -> Policy:
    """Policy ``name`` with what it has to learn on ``record`` (of val) and a threshold still to be chosen.

    Raises:
        ValueError: unknown policy, or ``record`` is of ``test`` and the policy would learn from it.
    """
    kind = lookup(POLICIES, name, "policy")
    blank = kind((kind.everybody,), temperatures=temperatures)
    if not kind.learns or record.n_exits == 1:
        return blank
    if record.meta.split == "test":
        raise ValueError(
            f"policy {name!r} learns from the record, and nothing is learned on test; fit it on val and hand that "
            "policy in: fit_policy(val, …)"
        )
    if isinstance(blank, GatePolicy):
        return replace(blank, learned=_learn_gates(record, blank))
    assert isinstance(blank, BudgetedPolicy)
    sure = ConfidencePolicy((0.0,), temperatures=temperatures)
    rows = [(s, *share_thresholds(record, sure, lambda _, n, s=s: round(n * (1 - s)))) for s in map(float, SHARES)]  # type: ignore[misc]
    return replace(blank, learned=tuple(rows))


def _learn_gates(record: ExitRecord, policy: GatePolicy) -> tuple[tuple[float, ...], ...]:
    columns, target = policy.columns(record), gate_target(record)
    state, rows = policy.start(record.images, record.labels), []
    for exit in range(record.n_exits - 1):
        seen = {name: column[:, exit] for name, column in columns.items()}
        features, state = policy.features(exit, seen, state)
        rows.append(learn_gate(np.stack(features, axis=1), target[:, exit]))
    return tuple(rows)


def share_thresholds(record: ExitRecord, policy: ByScore, wanted: Callable[[int, int], int]) -> list[float]:
    """Walk through the exits; at each one the first in the ranking go. Ties (`TIE`) leave together.

    Args:
        wanted: (exit, images still there) → how many of them should leave.

    Returns:
        K−1 thresholds of ``policy``.
    """
    ranking = leaning(record, policy)
    staying, thresholds = np.ones(record.images, bool), []
    for exit in range(record.n_exits - 1):
        ranked = np.sort(ranking[staying, exit])[::-1]
        number = wanted(exit, ranked.size)
        ends = tie_ends(ranked)
        end = ends[np.searchsorted(ends, number)] if 0 < number < ranked.size else number
        if number == 0:
            thresholds.append(policy.nobody)
        elif end >= ranked.size:
            thresholds.append(policy.everybody)
        else:
            thresholds.append(float(midway(ranked, np.array([end]), policy)[0]))
        level = np.float32(thresholds[-1]) * (-1 if policy.falling else 1)
        staying &= ~(ranking[:, exit] >= level)
    return thresholds


def _sweep_settings(record: ExitRecord, policy: Policy, settings: list[Any]) -> Sweep:
    exits = np.stack([replace(policy, thresholds=(t,)).exits(record) for t in settings])  # (G, B)
    shares = np.stack([np.bincount(row, minlength=record.n_exits) for row in exits])
    correct = record.correct[np.arange(record.images), exits].sum(axis=1)
    flops = realised_flops(shares, record)
    order = np.argsort(flops, kind="stable")  # on another record a larger share need not cost more
    return Sweep(np.array(settings)[order], shares[order], correct[order], flops[order])


def _sweep_values(record: ExitRecord, policy: ByScore) -> Sweep:
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
    shares = np.diff(np.insert(left, 0, 0, axis=0)[::-1], axis=1, prepend=0, append=record.images)
    correct = right[:, -1].sum(dtype=np.int64) + np.append(0, np.cumsum(gains))[::-1]
    between = midway(pairs, ends[:-1][::-1], policy)
    thresholds = np.concatenate([[policy.everybody], between, [policy.nobody]])[-len(shares) :]
    return Sweep(thresholds, shares, correct, realised_flops(shares, record))


def realised_flops(counts: Any, record: ExitRecord) -> Array:
    """Mean FLOPs fraction (...,) when ``counts`` (..., K) images leave at each exit."""
    counts = np.asarray(counts)
    return np.asarray((counts * record.flops_fraction).sum(axis=-1) / counts.sum(axis=-1))


def leaning(record: ExitRecord, policy: ByScore) -> Array:
    """(B, K−1) float32: the higher, the sooner it leaves."""
    return policy.values(record) * np.float32(-1 if policy.falling else 1)


def tie_ends(ranked: Array) -> Array:
    """Where each group of ties ends in falling values, the last end being their number."""
    return np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > TIE) + 1, ranked.size)


def midway(ranked: Array, ends: Array, policy: ByScore) -> Array:
    """Thresholds of ``policy`` between the groups that end at ``ends`` of falling `leaning` values.

    Exact in float32 (scores up to 15 lie below 1e-6 apart).
    """
    between = (ranked[ends - 1].astype(np.float64) + ranked[ends]) / 2
    return np.asarray(between.astype(np.float32), np.float64) * (-1 if policy.falling else 1)

"""Which threshold: a held-out record and a wish → a frozen policy.

In: an `ExitRecord` (of ``val``) and a compute budget, an accuracy drop, shares per exit or a threshold. Out: a `Policy`
to apply elsewhere (to ``test``). The shares protocol is that of MSDNet (Huang et al. 2018); the release uses it on
training data. Ours: budgets are realised FLOPs, thresholds lie midway between neighbouring scores, and scores closer
than `TIE` count as tied and leave together, so that float noise of another batch size or device cannot decide. Where
very many scores crowd (confidence near 1 of an overconfident model) ties form long chains and settings grow coarse:
a budget is then kept but not used up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .policy import POLICIES, EntropyPolicy, PatiencePolicy, Policy
from .record import ExitRecord
from .registry import lookup

TIE = 1e-6  # float noise between batch sizes reaches 4e-7

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


def sweep(record: ExitRecord, name: str = "confidence") -> Sweep:
    """Every distinct outcome of one threshold on ``record``, O(BK log BK).

    In the first setting everybody leaves at exit 1, in the last one nobody before the last exit. Ties as in `TIE`.

    Raises:
        ValueError: unknown policy.
    """
    policy = lookup(POLICIES, name, "policy")
    if policy is PatiencePolicy:
        return _sweep_patience(record)
    n_exits, right = record.n_exits, record.correct.astype(np.int64)
    best = np.maximum.accumulate(_leaning(record, policy)[:, :-1], axis=1)  # leaves by exit k if best[:, k] ≥ threshold
    order = np.argsort(best, axis=None)[::-1]  # all (image, exit) pairs, the first to leave first
    pairs = best.ravel()[order]
    ends = np.append(_ends(pairs)[::-1], 0) if pairs.size else np.zeros(1, np.int64)  # (G,) pairs that leave
    left = np.zeros((pairs.size + 1, n_exits + 1), np.int32)  # [j, k+1]: images gone by exit k after j pairs
    left[np.arange(1, pairs.size + 1), order % max(n_exits - 1, 1) + 1] = 1
    np.cumsum(left, axis=0, out=left)
    left[:, n_exits] = record.images
    shares = np.diff(left[ends].astype(np.int64), axis=1)
    gain = np.append(0, np.cumsum((right[:, :-1] - right[:, 1:]).ravel()[order]))
    inner = ends[1:-1]
    thresholds = np.concatenate([[policy.everybody], _midway(pairs, inner, policy), [policy.nobody]])[-len(ends) :]
    return Sweep(thresholds, shares, right[:, -1].sum() + gain[ends], realised_flops(shares, record))


def realised_flops(counts: Any, record: ExitRecord) -> Array:
    """Mean FLOPs fraction (...,) when ``counts`` (..., K) images leave at each exit."""
    counts = np.asarray(counts)
    return np.asarray((counts * record.flops_fraction).sum(axis=-1) / counts.sum(axis=-1))


def fit_policy(
    record: ExitRecord,
    name: str = "confidence",
    *,
    flops: float | None = None,
    accuracy_drop: float | None = None,
    shares: Sequence[float] | None = None,
    threshold: float | Sequence[float] | None = None,
) -> Policy:
    """Choose thresholds on a held-out record and return a frozen policy.

    Args:
        record: to fit on, of ``val``. name: one of `POLICIES`. Exactly one of the following says what is wanted.
        flops: the most accurate single threshold whose mean realised ``flops_fraction`` here is at most this.
        accuracy_drop: the cheapest single threshold losing at most this fraction against the last exit here.
        shares: one per exit, of images that should leave there (MSDNet): one threshold per exit but the last.
        threshold: one, or one per exit but the last; nothing is fitted.

    Ties in accuracy go to the cheaper setting; scores closer than `TIE` leave together.

    Raises:
        ValueError: unknown policy, not exactly one wish, one out of range, or a budget below leaving at exit 1.
    """
    policy = lookup(POLICIES, name, "policy")
    wishes = {"flops": flops, "accuracy_drop": accuracy_drop, "shares": shares, "threshold": threshold}
    given = [key for key, value in wishes.items() if value is not None]
    if len(given) != 1:
        got = ", ".join(given) or "none"
        raise ValueError(f"give exactly one of flops, accuracy_drop, shares, threshold; got {got}")
    if threshold is not None:
        thresholds = _floats(threshold)
    elif shares is not None:
        thresholds = _fit_shares(record, policy, _floats(shares))
    elif flops is not None:
        thresholds = [_fit_flops(sweep(record, name), flops)]
    else:
        thresholds = [_fit_drop(sweep(record, name), accuracy_drop or 0.0)]
    target = {key: _floats(value) if key == "shares" else value for key, value in wishes.items() if key in given}
    if threshold is not None:
        target = {"threshold": thresholds if len(thresholds) > 1 else thresholds[0]}
    fitted = {"data": record.meta.data, "split": record.meta.split, "images": record.images, "target": target}
    result = policy(tuple(thresholds), fitted)
    result.check(record.n_exits)
    return result


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.atleast_1d(values)]


def _sweep_patience(record: ExitRecord) -> Sweep:
    patience = np.arange(record.n_exits)
    exits = np.stack([PatiencePolicy((int(t),)).exits(record) for t in patience])  # (K, B)
    shares = np.stack([np.bincount(row, minlength=record.n_exits) for row in exits])
    correct = record.correct[np.arange(record.images), exits].sum(axis=1)
    return Sweep(patience, shares, correct, realised_flops(shares, record))


def _fit_flops(swept: Sweep, budget: float) -> float:
    if not budget > 0:
        raise ValueError(f"flops={budget!r} must be a fraction of reference_flops above 0, e.g. 0.3")
    affordable = swept.flops_fraction <= budget * (1 + 1e-12)
    if not affordable.any():
        cheapest = float(swept.flops_fraction.min())
        raise ValueError(f"flops={budget:g} cannot be met: leaving at exit 1 always costs {cheapest:.4f} already")
    return float(swept.thresholds[np.argmax(np.where(affordable, swept.correct, -1))])


def _fit_drop(swept: Sweep, drop: float) -> float:
    if not 0 <= drop <= 1:
        raise ValueError(f"accuracy_drop={drop!r} must be a fraction from 0 to 1, e.g. 0.01")
    images = int(swept.shares[0].sum())
    return float(swept.thresholds[np.argmax(swept.correct >= swept.correct[-1] - drop * images - 1e-9)])


def _fit_shares(record: ExitRecord, policy: type[Policy], shares: list[float]) -> list[float]:
    """Walk down the ranking at each exit until floor(B·share) of the images that have not left are covered."""
    if policy is PatiencePolicy:
        raise ValueError("shares= needs a policy that reads a score: confidence, entropy or margin")
    if len(shares) != record.n_exits or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-3:
        raise ValueError(f"shares={shares} must be {record.n_exits} fractions, one per exit, that sum to 1")
    leaning = _leaning(record, policy)
    staying = np.ones(record.images, bool)
    thresholds: list[float] = []
    for exit in range(record.n_exits - 1):
        ranked = np.sort(leaning[staying, exit])[::-1]
        wanted = int(record.images * shares[exit] + 1e-9)
        ends = _ends(ranked)
        end = ends[np.searchsorted(ends, wanted)] if 0 < wanted < ranked.size else wanted
        if wanted == 0:
            thresholds.append(policy.nobody)
        elif end >= ranked.size:
            thresholds.append(policy.everybody)
        else:
            thresholds.append(float(_midway(ranked, np.array([end]), policy)[0]))
        leave, _ = policy((thresholds[-1],)).decide(exit, {policy.name: record.score(policy.name)[:, exit]}, ())
        staying &= ~leave
    return thresholds or [policy.everybody]


def _sign(policy: type[Policy]) -> int:
    return -1 if policy is EntropyPolicy else 1


def _leaning(record: ExitRecord, policy: type[Policy]) -> Array:
    """(B, K) float32: the higher, the sooner it leaves."""
    return record.score(policy.name) * np.float32(_sign(policy))


def _ends(ranked: Array) -> Array:
    """Where each group of ties ends in falling values, the last end being their number."""
    return np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > TIE) + 1, ranked.size)


def _midway(ranked: Array, ends: Array, policy: type[Policy]) -> Array:
    """Thresholds between the groups that end at ``ends``, exact in float32 (scores up to 15 lie below 1e-6 apart)."""
    between = (ranked[ends - 1].astype(np.float64) + ranked[ends]) / 2
    return np.asarray(between.astype(np.float32), np.float64) * _sign(policy)

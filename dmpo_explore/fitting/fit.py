"""Fitting of a policy: a sweep of its thresholds over a record, and the choice of one for a target.

Sweep of one threshold over a record: every distinct outcome.
In: an `ExitRecord` and a policy (a name, or one fitted on val). Out: a `Sweep`: thresholds, exit counts, correct
predictions and FLOPs, from the cheapest setting to the most expensive.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..policies.base import Policy
from ..policies.catalogue import POLICIES, learned_policy
from ..records.record import ExitRecord, checked_temperatures
from ..utils.registry import lookup
from ..utils.texts import data_name
from ..utils.typing import Array, at_exits
from .per_exit import best_thresholds, budget_key, floor_key
from .risk_control import Certificate, certify, images_needed
from .target import BOUNDS, DELTA, EPSILON, Target
from .temperature import fit_temperatures


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


# Fitting of a policy: a held-out record and a target in, a frozen policy out.
#
# In: an `ExitRecord` (of ``calibration``, or ``val``) and a `Target`: compute budget, accuracy drop, exit shares, risk
# or thresholds. Out: a `Policy` to apply elsewhere (to ``test``). The shares protocol is that of MSDNet (Huang et al.
# 2018); the release uses it on training data. Ours: budgets are realised FLOPs; thresholds lie between scores (see
# `ranking`). If very many scores are tied, a budget is met but not used up.

ALL_AT_EXIT_1 = (
    "every image exits at exit 1: the next setting takes {dearer:.2%} of the compute, the budget is {budget:g}%"
)
TOO_LOW = "no threshold is accurate enough; this is the most accurate one, {points:.1f} points too low"
NO_CERTIFICATE = "no threshold can be certified, so no image exits early"
TOO_FEW = "{images:,} images{half} cannot certify {epsilon:g} %: at least {needed:,} are needed"
FEW = 100  # images; with fewer, one image moves an accuracy by more than a point
ON_TEST = (
    "this policy is fitted on a test record, so its accuracy and compute on test are too optimistic; fit it on "
    "calibration: fit_policy(run.record('calibration'), …), or on val if there is no calibration record"
)


def fit_policy(
    record: ExitRecord,
    policy: str = "confidence",
    target: Target | None = None,
    *,
    flops: float | None = None,
    accuracy_drop: float | None = None,
    near_best: float | None = None,
    shares: Sequence[float] | None = None,
    threshold: float | Sequence[float] | None = None,
    risk: str | None = None,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    per_exit: bool = False,
    temperatures: Sequence[float] | str | None = None,
) -> Policy:
    """A policy whose thresholds are chosen on a held-out record to meet a target.

    Args:
        record: to fit on: of ``calibration``, whose images are used for nothing else, or of ``val`` if a run has none
            (see `Run.fitting_split`); ``fitted["record"]`` keeps its digest. policy: one of `POLICIES`.
        target: what to fit to; or one of its kinds as a keyword: flops, accuracy_drop, near_best, shares (a threshold
            for every exit), threshold, or risk with epsilon and delta (see `certify`). With risk, a policy that learns
            or has temperatures is fitted on half of the record. ``fitted["note"]`` states that none can be certified or
            is accurate enough, or that a budget leaves exit 1 alone.
        per_exit: with flops, accuracy_drop or near_best, a threshold of its own for every exit but the last.
        temperatures: K numbers, or ``"fit"`` to fit them here (see `fit_temperatures`); the record must have logits.

    Of settings with equal accuracy the cheaper one is taken; scores closer than `TIE` exit together. A record of
    ``test`` gives a warning.

    Raises:
        ValueError: unknown policy or risk, not exactly one target, one that cannot be met, an argument that does not
            belong to it, temperatures without logits, or something that would be learned or certified on ``test``.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("calibration")
        >>> dx.fit_policy(record, "confidence", flops=0.30) == dx.fit_policy(record, target=dx.Target.flops(0.30))
        True
        >>> dx.fit_policy(record, "patience", accuracy_drop=0.01).thresholds
        (1,)
    """
    kind = lookup(POLICIES, policy, "policy")
    short: dict[str, Any] = {"flops": flops, "accuracy_drop": accuracy_drop, "near_best": near_best}
    short |= {"shares": shares, "threshold": threshold, "risk": risk}
    if target is None:
        target = Target.from_arguments(**short, epsilon=epsilon, delta=delta, per_exit=per_exit)
    elif per_exit or (epsilon, delta) != (EPSILON, DELTA) or any(value is not None for value in short.values()):
        raise ValueError("give either target= or its short form (flops=, accuracy_drop= …), not both")
    if temperatures is not None and not len(temperatures):  # as a policy without them says
        temperatures = None
    if target.kind == "full_depth" and temperatures is not None:
        raise ValueError("temperatures do not fit full_depth, where every image goes to the last exit")
    if target.calibrate and temperatures is not None and not isinstance(temperatures, str):
        raise ValueError("give either temperatures or calibrate=True, which fits them, not both")
    if isinstance(temperatures, str):
        if temperatures != "fit":
            raise ValueError(f"temperatures={temperatures!r} must be {record.n_exits} numbers or 'fit'")
        target = replace(target, calibrate=True)
    temperatures = "fit" if target.calibrate else temperatures
    target.check(record)
    if target.per_exit and not kind.per_exit_thresholds:
        fits = ", ".join(name for name, other in POLICIES.items() if other.per_exit_thresholds)
        raise ValueError(f"per_exit=True needs one of the policies {fits}; got {policy}")
    fitted = _fit(record, policy, target, temperatures)
    fitted.check(record.n_exits)
    if record.meta.split == "test" and target.kind in (*BOUNDS, "shares"):
        warnings.warn(ON_TEST, UserWarning, stacklevel=2)
    return fitted


def fit_again(policy: Policy, record: ExitRecord) -> Policy:
    """A policy fitted to the same target on another record: of another split, engine or count of FLOPs.

    Temperatures that were given, not fitted, are kept. One set by hand that learned nothing, one of full depth, and one
    whose target cannot be met there are returned as they are.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("calibration")
        >>> policy = dx.fit_policy(record, flops=0.3)
        >>> fit_again(policy, record) == policy
        True
    """
    return policy.fitted_by(_to_same_target, record)


def _to_same_target(policy: Policy, record: ExitRecord) -> Policy:
    values = policy.fitted.get("target")
    try:
        target = Target.from_dict(values) if values else None
        if target is None or target.kind == "full_depth":
            return policy
        if target.kind == "threshold" and "record" not in policy.fitted:
            return policy
        given = None if target.calibrate else policy.temperatures or None
        return fit_policy(record, policy.name, target=target, temperatures=given)
    except ValueError:  # a target that cannot be met any more
        return policy


def made_for(policy: Policy, record: ExitRecord) -> bool:
    """Whether a policy was fitted on this record. One that carries no digest counts as such.

    Thresholds that were set by hand carry none, unless something was learned or calibrated, nor do policies of earlier
    versions.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> policy = dx.fit_policy(run.record("calibration"), flops=0.3)
        >>> made_for(policy, run.record("calibration")), made_for(policy, run.record("val"))
        (True, False)
    """
    return policy.fitted.get("record") in (None, record.digest)


def few_images(images: int, split: str = "val") -> str:
    """A caution where thresholds are fitted on fewer than `FEW` images of a split; else an empty text.

    Example:
        >>> few_images(1000), few_images(40)[:17]
        ('', 'val has 40 images')
    """
    if images >= FEW:
        return ""
    return (
        f"{split} has {images} images, and one image is {100 / images:.1f} points of accuracy: the fitted thresholds "
        f"depend strongly on the choice of images. Use {FEW} or more (add images, or divide them yourself)"
    )


def _fit(record: ExitRecord, name: str, target: Target, temperatures: Sequence[float] | str | None) -> Policy:
    meta = record.meta
    about: dict[str, Any] = {"data": data_name(meta.data), "split": meta.split, "images": record.n_images}
    about["target"] = target.to_dict()
    if target.kind == "full_depth":  # nothing is fitted or learned
        return POLICIES[name]((POLICIES[name].threshold_none,), about)
    learns = isinstance(temperatures, str) or (POLICIES[name].learns and record.n_exits > 1)
    if learns or target.kind != "threshold":
        about["record"] = record.digest
    prepare, judge = _halves(record) if target.kind == "risk" and learns else (record, record)
    policy = learned_policy(prepare, name, _temperatures(prepare, temperatures))
    if target.kind == "threshold":
        policy = policy.with_thresholds(record, [float(value) for value in np.atleast_1d(target.value)])
    elif target.kind == "shares" and record.n_exits > 1:
        policy = policy.with_shares(record, list(target.value))
    elif target.kind == "risk":
        certificate = certify(judge, policy, target.value, target.epsilon, target.delta)
        about |= _described(certificate, target, half=judge is not record)
        policy = replace(policy, thresholds=(certificate.threshold,))
    elif target.kind in BOUNDS:
        policy, noted = _with_constraint(record, policy, target)
        about |= noted
    if policy.temperatures and (reason := policy.unavailable_reason(record)):
        raise ValueError(reason)
    return replace(policy, fitted=about)


def cross_validated_gain(
    record: ExitRecord, policy: str = "confidence", *, folds: int = 5, seed: int = 0, **bound: float
) -> dict[str, float]:
    """Cross-validated gain of a threshold per exit over a single one, on images that neither was fitted on.

    Args:
        record: of ``calibration`` or ``val``. bound: one of `target.BOUNDS`. folds: each is measured with the
            thresholds fitted on the others.

    Returns:
        ``single`` and ``vector`` (accuracies), ``single_flops`` and ``vector_flops`` (mean realised fractions), and
        ``gain``: the vector's accuracy minus the single threshold's at the vector's FLOPs, read from each fold's curve.

    Example:
        >>> import dmpo_explore as dx
        >>> found = cross_validated_gain(dx.load_run("demo").record("val"), flops=0.3, folds=2)
        >>> abs(found["gain"]) < 0.01
        True
    """
    order = np.random.default_rng(seed).permutation(record.n_images)
    rows = []
    for fold in range(folds):
        fitted_on, held_out = record.subset(np.delete(order, np.s_[fold::folds])), record.subset(order[fold::folds])
        numbers = []
        for per_exit in (False, True):
            exits = fit_policy(fitted_on, policy, per_exit=per_exit, **bound).exits(held_out)  # type: ignore[arg-type]
            numbers += [
                at_exits(held_out.correct, exits).mean(),
                held_out.flops_fraction[exits].mean(),
            ]
        curve = sweep(held_out, learned_policy(fitted_on, policy))
        numbers.append(numbers[2] - np.interp(numbers[3], curve.flops_fraction, curve.correct / held_out.n_images))
        rows.append(numbers)
    names = ("single", "single_flops", "vector", "vector_flops", "gain")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def _halves(record: ExitRecord) -> tuple[ExitRecord, ExitRecord]:
    order = np.random.default_rng(0).permutation(record.n_images)
    if record.n_images < 2:
        raise ValueError("risk control of a policy that learns needs at least 2 images: half to learn, half to certify")
    middle = record.n_images // 2
    return record.subset(np.sort(order[:middle])), record.subset(np.sort(order[middle:]))


def _temperatures(record: ExitRecord, given: Sequence[float] | str | None) -> tuple[float, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        if record.meta.split == "test":
            raise ValueError(
                "temperatures='fit' on a test record: nothing is fitted on test; use "
                "fit_policy(run.record('calibration'), …)"
            )
        return fit_temperatures(record)
    return checked_temperatures(given, record.n_exits)


def _described(certificate: Certificate, target: Target, *, half: bool) -> dict[str, Any]:
    found = {key: getattr(certificate, key) for key in ("certified", "risk", "p_value", "images", "tested")}
    if certificate.certified:
        return {"certificate": found}
    needed, note = images_needed(target.epsilon, target.delta), NO_CERTIFICATE
    if certificate.images < needed:
        learns = " (the other half is learned on)" if half else ""
        few = TOO_FEW.format(images=certificate.images, half=learns, epsilon=100 * target.epsilon, needed=needed)
        note = f"{NO_CERTIFICATE}; {few}"
    return {"certificate": found, "note": note}


def _with_constraint(record: ExitRecord, policy: Policy, target: Target) -> tuple[Policy, dict[str, str]]:
    """The policy within the bound, and a note where a budget leaves nothing to choose."""
    swept, bound = sweep(record, policy), float(target.value)
    if target.kind == "flops":
        single, key, noted = _fit_flops(swept, bound), budget_key(bound), _only_exit_1(swept, bound)
    else:
        against = swept.correct[-1] if target.kind == "accuracy_drop" else record.correct.sum(axis=0).max()
        wanted, reached = float(against - bound * record.n_images), float(swept.correct.max())
        single = float(swept.thresholds[np.argmax(swept.correct >= min(wanted, reached) - 1e-9)])
        key, noted = floor_key(min(wanted, reached)), _too_low((wanted - reached) / record.n_images)
    if not target.per_exit or record.n_exits == 1:
        return replace(policy, thresholds=(single,)), noted
    policy = replace(policy, thresholds=tuple(best_thresholds(record, policy, single, key)))
    if target.kind == "flops":
        return policy, {}
    return policy, _too_low((wanted - at_exits(record.correct, policy.exits(record)).sum()) / record.n_images)


def _only_exit_1(swept: Sweep, budget: float) -> dict[str, str]:
    """A note where a budget leaves no setting but exit 1 for all, the cheapest, though it pays for more."""
    compute = swept.flops_fraction
    dearer = float(compute[compute > compute.min() * (1 + 1e-9)].min(initial=np.inf))
    if not budget < dearer < np.inf:
        return {}
    return {"note": ALL_AT_EXIT_1.format(dearer=dearer, budget=100 * budget)}


def _fit_flops(swept: Sweep, budget: float) -> float:
    affordable = swept.flops_fraction <= budget * (1 + 1e-12)
    if not affordable.any():
        cheapest = float(swept.flops_fraction.min())
        raise ValueError(f"flops={budget:g} cannot be met: exit 1 alone costs {cheapest:.4f}")
    return float(swept.thresholds[np.argmax(np.where(affordable, swept.correct, -1))])


def _too_low(missing: float) -> dict[str, str]:
    """A note where the most accurate threshold misses the wanted accuracy by this fraction."""
    return {"note": TOO_LOW.format(points=100 * missing)} if missing > 1e-9 else {}

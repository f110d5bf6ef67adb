"""Evaluation of runs: policies fitted on calibration (or val) and evaluated on test, a row of numbers per run.

In: names of runs and targets, or a protocol, or all policies. Out: plain rows; `tables` writes them as Markdown.
Another run is compared on the same images (`bootstrap_difference`). The protocols are MSDNet's (Huang et al. 2018):
anytime, each exit as if the model ended there, and budgeted, a share of the images continues at every exit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..fitting.fit import fit_policy
from ..fitting.target import DEFAULT_TARGET, RISK_NAMES, Target
from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..records.record import ExitRecord
from ..runs.run import Run
from ..runs.score_folder import load_scored
from ..utils.registry import lookup
from ..utils.texts import one_line
from .calibration import calibration_error, failure_prediction
from .metrics import Outcome, accuracy_interval, apply, bootstrap_difference, class_metrics

BUDGETS = (0.3, 0.5, 0.7, 1.0)  # where no target is given
TARGETS = (Target.flops(0.3), Target.flops(0.5), Target.flops(0.7), Target.accuracy_drop(0.01))  # for every policy
VARIANTS = {"confidence": ({"per_exit": True}, {"calibrate": True})}  # policy → options that are evaluated too
ONE_EXIT = "it has one exit, so it runs at full depth whatever the target"
AS_SUMMED = {"disagreement": "changed"}  # risk → its key in `Outcome.summary`, where it is another
MOST_REASON = 300  # characters
PROTOCOLS = {"anytime": "fixed", "budgeted": "budgeted"}  # protocol → policy

Row = dict[str, Any]
RunLike = str | Path | Run


def fit_run_policy(run: Run, policy: str | Policy = "confidence", target: Target | None = None) -> Policy:
    """The policy fitted to ``target`` on the run's calibration record, or on val where that is not recorded.

    Full depth and given thresholds need no record, unless something has to be learned or calibrated.

    Args:
        policy: one of `POLICIES`, or a saved policy, which keeps its own target and is fitted again only where it was
            fitted on another record (`Run.fitted_here`). target: by default the cheapest threshold within
            one point of the most accurate exit there; with a saved policy, its own or full depth.

    Raises:
        ValueError: as `fit_policy`, the run named; no such record; a saved policy beside another target.

    Example:
        >>> import dmpo_explore as dx
        >>> policy = dx.fit_run_policy(dx.load_run("demo"), "confidence", dx.Target.flops(0.30))
        >>> policy.fitted["split"], policy.fitted["target"]
        ('calibration', {'flops': 0.3})
    """
    if not isinstance(policy, str):
        if target not in (None, Target.full_depth(), own := target_of(policy)):
            raise ValueError(
                f"the saved policy is fitted to {own.to_dict()}, not to {target.to_dict()}; leave the target out, or "
                f"fit policy={policy.base.name!r} to it"
            )
        if target != Target.full_depth():
            return run.fitted_here(policy)
        policy = policy.base.name
    kind, target = lookup(POLICIES, policy, "policy"), target or DEFAULT_TARGET
    free = not (kind.learns or target.calibrate)
    if target.kind == "full_depth" or (target.kind == "threshold" and free):
        value: Any = kind.threshold_none if target.kind == "full_depth" else target.value
        return kind(value if isinstance(value, tuple) else (value,), {"target": target.to_dict()})
    record = run.record(run.fitting_split)
    try:
        return fit_policy(record, policy, target=target)
    except ValueError as error:
        raise ValueError(f"run {run.name!r}: {error}") from None


def target_of(policy: Policy) -> Target:
    """What a saved policy was fitted to; its thresholds as they are where it does not say."""
    values = policy.fitted.get("target")
    return Target.from_dict(values) if values else Target.threshold(policy.thresholds)


def evaluate_runs(
    runs: RunLike | Sequence[RunLike],
    policy: str | Policy = "confidence",
    targets: Target | Sequence[Target] | None = None,
    *,
    split: str = "test",
    against: RunLike | None = None,
    per_exit: bool = False,
    calibrate: bool = False,
    per_class: bool = False,
) -> list[Row]:
    """One row per run and target: `summarise`'s numbers with ``run``, ``policy``, ``target``, ``threshold``.

    Args:
        runs: runs, or their names or folders, also of own scores (`runs.load_scored`). split: the record to evaluate
            on. policy: one of `POLICIES`, or a saved policy with its own target.
        targets: one or several; without any: `BUDGETS` as far as the run can meet them, and full depth. ``per_exit``
            and ``calibrate`` are for these.
        against: a run to compare with under the same target; one with a single exit is compared at full depth.
        per_class: add ``classes``, the rows of `class_metrics`; values that a class without images does not have are
            None.

    Returns:
        Rows that JSON can hold. ``target`` is `Target.to_dict`'s, ``fitted_on`` the split of its fit, if any;
        ``interval`` is `accuracy_interval`'s, ``gflops`` the mean compute of an image. A run with a single exit has
        one row, at full depth. ``note`` states that, what `fit_policy` notes, or how far an accuracy drop is from the
        last exit on ``split``.
        ``against`` has ``difference``, ``low`` and ``high`` of the accuracies (95 %), or is None where the other run
        cannot meet a default budget.

    Raises:
        ValueError: unknown names, a target that cannot be met, options that the targets do not have, records of other
            images.

    Example:
        >>> import dmpo_explore as dx
        >>> (row,) = dx.evaluate_runs(["fashion"], targets=dx.Target.flops(0.30), against="fashion-single")
        >>> round(row["accuracy"], 4), round(row["flops_fraction"], 3), row["target"]
        (0.9133, 0.242, {'flops': 0.3})
        >>> round(row["against"]["difference"], 4)
        -0.0001
    """
    other = load_scored(against) if against else None
    given = [targets] if isinstance(targets, Target) else list(targets or ())
    if not isinstance(policy, str):
        if given:
            raise ValueError("give either a saved policy, which has a target of its own, or targets, not both")
        given = [target_of(policy)]
    for name, wanted in {"per_exit": per_exit, "calibrate": calibrate}.items():
        if wanted and not all(getattr(target, name) for target in given):
            raise ValueError(
                f"{name}=True is for the default budgets; make the target with it: Target.…(…, {name}=True)"
            )
    fitted = other.name if other and other.record(split).n_exits > 1 else ""
    rows, loaded = [], _opened(runs)
    if other and fitted and {run.path for run in loaded} == {other.path}:
        raise ValueError(
            f"{other.name} would be compared with itself under the same policy; name another run, or see the policies "
            "of one run side by side with --all-policies"
        )
    for run in loaded:
        chosen = given or default_targets(run.record(run.fitting_split), per_exit=per_exit, calibrate=calibrate)
        single = run.record(split).n_exits == 1
        if single and not fitted:
            chosen = chosen[:1]  # one row is all there is
        for target in chosen:
            own = Target.full_depth() if single else target
            row = _row(run, policy, own, split, other, theirs=target, strict=bool(given), per_class=per_class)
            rows.append(row | _noted(row, target, fitted))
    return rows


def evaluate_policies(runs: RunLike | Sequence[RunLike], *, split: str = "test") -> list[Row]:
    """Every policy, and its `VARIANTS`, under each of `TARGETS`: rows as of `evaluate_runs`.

    Budgets that a run cannot meet are left out. A policy that cannot be used there has rows without numbers:
    ``unavailable`` is the reason.

    Example:
        >>> import dmpo_explore as dx
        >>> rows = dx.analysis.evaluate_policies(["demo-cnn"])
        >>> rows[0]["policy"], rows[0]["target"]
        ('confidence', {'flops': 0.3})
    """
    rows = []
    for run in _opened(runs):
        held_out, record = run.record(run.fitting_split), run.record(split)
        found = [(name, how) for name in POLICIES for how in ({}, *VARIANTS.get(name, ()))]
        met = [target for target in TARGETS if _can_meet(target, held_out)]
        for name, how in found:
            reason = unavailable_reason(name, held_out, record, calibrate="calibrate" in how)
            rows += [_row_or_reason(run, name, replace(target, **how), split, reason) for target in met]
    return rows


def unavailable_reason(policy: str, held_out: ExitRecord, record: ExitRecord, *, calibrate: bool = False) -> str | None:
    """Why a policy cannot be fitted on one record and applied to another; None if it can.

    An exception of a plug-in's policy or score is a reason too.

    Args:
        calibrate: with a temperature per exit, fitted on ``held_out``.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo-cnn")
        >>> unavailable_reason("gate", run.record("calibration"), run.record("test")) is None
        True
    """
    kind = lookup(POLICIES, policy, "policy")
    temperatures = (1.0,) * record.n_exits if calibrate else ()
    try:
        blank, full_depth = (kind((t,), temperatures=temperatures) for t in (kind.threshold_all, kind.threshold_none))
        return blank.unavailable_reason(held_out) or full_depth.unavailable_reason(record)
    except Exception as error:
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """An exception as the reason why a policy is unavailable: of a ValueError its text, of others the type too."""
    text = one_line(error, MOST_REASON)
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _row_or_reason(run: Run, policy: str, target: Target, split: str, reason: str | None) -> Row:
    """`_row`, or one with the reason why there is none: what a policy of a plug-in raises ends no table."""
    try:
        if reason is None:
            return _row(run, policy, target, split)
    except Exception as error:
        reason = reason_of(error)
    meta = run.record(split).meta
    facts = {"run": run.name, "data": meta.data, "split": split, "policy": policy, "target": target.to_dict()}
    return facts | {"unavailable": reason}


def evaluate_protocol(runs: RunLike | Sequence[RunLike], protocol: str, *, split: str = "test") -> list[Row]:
    """MSDNet's curves: ``anytime``, a row per exit, or ``budgeted``, a row per share that continues (0, 10, … 100 %).

    Rows are those of `evaluate_runs` with ``{protocol: setting}`` as their ``target``. Those of an exit have its
    expected calibration error ``ece`` and early-exit failure prediction ``eefp`` (None at the last exit) as well.

    Example:
        >>> import dmpo_explore as dx
        >>> [round(row["accuracy"], 3) for row in dx.analysis.evaluate_protocol(["demo-cnn"], "anytime")]
        [0.789, 0.828, 0.838, 0.854, 0.865]
    """
    policy = lookup(PROTOCOLS, protocol, "protocol")
    rows = []
    for run in _opened(runs):
        settings = range(1, run.record(split).n_exits + 1) if protocol == "anytime" else np.linspace(0, 1, 11).round(1)
        for setting in map(float, settings):
            row = _row(run, policy, Target.threshold(setting), split)
            row["target"] = {protocol: setting}
            if protocol == "anytime":
                exit, record = int(setting) - 1, run.record(split)
                eefp = [*failure_prediction(record).tolist(), math.nan][exit]
                row |= {"ece": float(calibration_error(record)[exit]), "eefp": None if math.isnan(eefp) else eefp}
            rows.append(row)
    return rows


def _opened(runs: RunLike | Sequence[RunLike]) -> list[Run]:
    return [*map(load_scored, [runs] if isinstance(runs, RunLike) else runs)]


def default_targets(record: ExitRecord, *, per_exit: bool = False, calibrate: bool = False) -> list[Target]:
    """Compute budgets from `BUDGETS` that a record can meet, and full depth."""
    budgets = [] if record.n_exits == 1 else [budget for budget in BUDGETS if record.flops_fraction[0] <= budget]
    return [*(Target.flops(b, per_exit=per_exit, calibrate=calibrate) for b in budgets), Target.full_depth()]


def same_images(record: ExitRecord, other: ExitRecord) -> bool:
    """Whether two records are of the same images in the same order.

    The hashes of their files are compared if both records have them, else labels, data and indices.

    Example:
        >>> import dmpo_explore as dx
        >>> same_images(dx.load_run("demo").record("test"), dx.load_run("demo-naive").record("test"))
        True
    """
    ours, theirs = record.meta, other.meta
    known = ours.images_sha256 and theirs.images_sha256
    split = ours.images_sha256 == theirs.images_sha256 if known else ours.data == theirs.data
    same = [np.array_equal(record.labels, other.labels), split]
    if ours.indices is not None and theirs.indices is not None:
        same.append(np.array_equal(ours.indices, theirs.indices))
    return all(same)


def _can_meet(target: Target, record: ExitRecord) -> bool:
    return target.kind != "flops" or bool(record.flops_fraction[0] <= target.value)


def _row(
    run: Run,
    policy: str | Policy,
    target: Target,
    split: str,
    other: Run | None = None,
    *,
    theirs: Target | None = None,  # the other run's target
    strict: bool = True,
    per_class: bool = False,
) -> Row:
    record = run.record(split)
    fitted = fit_run_policy(run, policy, target)
    outcome = apply(fitted, record)
    row = {
        "run": run.name,
        "data": record.meta.data,
        "split": split,
        "policy": fitted.name,
        "target": target.to_dict(),
        "threshold": fitted.thresholds[0] if len(fitted.thresholds) == 1 else list(fitted.thresholds),
        "fitted_on": fitted.fitted.get("split"),
        **outcome.summary(),
        "gflops": _gflops(outcome),
        "interval": list(accuracy_interval(outcome.correct)),
    }
    if fitted.temperatures:
        row["temperatures"] = list(fitted.temperatures)
    row |= {key: fitted.fitted[key] for key in ("certificate", "note") if key in fitted.fitted}
    if per_class:
        table = class_metrics(outcome)
        row["classes"] = table.astype(object).where(table.notna(), None).to_dict("records")
    if other is not None:
        row["against"] = _compare(run, outcome, other, split, fitted.base.name, theirs or target, strict=strict)
    return row


def _noted(row: Row, target: Target, other: str) -> Row:
    """A note where one exit leaves nothing to fit, and what became of a limit on the evaluated images."""
    if row["target"] != target.to_dict():
        return {"note": f"{ONE_EXIT}; {target.describe()} applies to {other} alone" if other else ONE_EXIT}
    if target.kind == "risk" and row.get("certificate", {}).get("certified"):
        certificate, words = row["certificate"], RISK_NAMES.get(target.value, target.value)
        counts = (
            f"{round(share * images)} of {images:,} images on {split} ({100 * share:.1f} %)"
            for share, images, split in (
                (certificate["risk"], certificate["images"], row["fitted_on"]),
                (row[AS_SUMMED.get(target.value, target.value)], row["images"], row["split"]),
            )
        )
        return {"note": f"{words}: {', '.join(counts)}"}
    if target.kind not in ("accuracy_drop", "near_best"):
        return {}
    which, best = (
        ("last", row["full_accuracy"]) if target.kind == "accuracy_drop" else ("best", max(row["exit_accuracy"]))
    )
    points = 100 * (row["accuracy"] - best)
    far = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if abs(points) >= 0.05 else "as accurate as"
    both = f"{100 * row['accuracy']:.2f} % against {100 * best:.2f} %"
    return {"note": f"on {row['split']} it is {far} the {which} exit ({both})"}


def _compare(
    run: Run, ours: Outcome, other: Run, split: str, policy: str, target: Target, *, strict: bool
) -> Row | None:
    record = other.record(split)
    if not same_images(ours.record, record):
        raise ValueError(f"run {other.name!r} was not recorded on the same {split} images")
    if record.n_exits == 1:
        target = Target.full_depth()
    if not strict and not _can_meet(target, record):
        return None  # a default budget that it cannot meet
    theirs = apply(fit_run_policy(other, policy, target.capped(record)), record)
    itself = run.path == other.path and np.array_equal(ours.exits, theirs.exits)
    difference, low, high = (0.0, 0.0, 0.0) if itself else bootstrap_difference(ours.correct, theirs.correct)
    result = theirs.summary()
    kept = {key: result[key] for key in ("accuracy", "flops_fraction", "mean_exit")}
    found = {"difference": difference, "low": low, "high": high}
    return {"run": other.name, **kept, "gflops": _gflops(theirs), **found}


def _gflops(outcome: Outcome) -> float:
    """Mean compute of an image, in GFLOPs: it compares runs with other backbones or image sizes."""
    return float(outcome.flops_fraction.mean() * outcome.record.meta.reference_flops / 1e9)

"""Runs and a wish → what the fitted policy is worth: thresholds from val, judged on test.

In: names of runs and one wish (compute budgets, an accuracy drop, shares, a guarantee or thresholds), or a protocol, or
all policies. Out: one plain row per run and wish, and the rows as a Markdown table. Another run is compared on the same
images by a paired bootstrap. The protocols are MSDNet's (Huang et al. 2018): anytime, each exit as if the model ended
there, and budgeted, a share of the images going on at every exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..fitting.fit import WISHES, fit_policy
from ..fitting.target import _HOW, FULL, Wish
from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..records.record import ExitRecord
from ..runs.run import Run
from ..runs.store import load_run
from ..utils.registry import lookup
from .metrics import bootstrap_difference, summarise

BUDGETS = (0.3, 0.5, 0.7, 1.0)  # without a wish
ALL_WISHES: tuple[dict[str, float], ...] = ({"flops": 0.3}, {"flops": 0.5}, {"flops": 0.7}, {"accuracy_drop": 0.01})
VARIANTS: tuple[dict[str, Any], ...] = ({"per_exit": True}, {"temperatures": "fit"})  # of confidence, beside all
PROTOCOLS = {"anytime": "fixed", "budgeted": "budgeted"}  # protocol → policy


def fit_wish(run: Run, policy: str, wish: Wish) -> Policy:
    """The policy that fulfils ``wish`` on the run's val record; given thresholds alone need no record.

    Args:
        wish: arguments of `fit_policy` (those that are None or False do not count), or `FULL`.

    Raises:
        ValueError: as `fit_policy`, the run named; no val record.
    """
    kind = lookup(POLICIES, policy, "policy")
    given = _given(wish)
    if given == FULL:
        return kind((kind.threshold_none,))
    if given.keys() == {"threshold"} and not kind.learns:
        return kind(tuple(np.atleast_1d(given["threshold"]).tolist()))
    record = run.record("val")
    try:
        return fit_policy(record, policy, **given)
    except ValueError as error:
        raise ValueError(f"run {run.name!r}: {error}") from None


def evaluate_runs(
    runs: Sequence[str], policy: str = "confidence", *, split: str = "test", against: str | None = None,
    flops: Sequence[float] | None = None, **wish: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row per run and wish: `summarise`'s numbers with ``run``, ``policy``, ``target``, ``threshold``.

    Args:
        flops: budgets, one row each. wish: another argument of `fit_policy` that says what is wanted instead
            (``accuracy_drop``, ``shares``, ``threshold``, ``risk``), and those that say how. Without any:
            `BUDGETS` as far as the run can meet them, and full depth.
        against: a run to compare with under the same wish; one with a single exit is taken as it is.

    Raises:
        ValueError: unknown names, more than one wish, a wish that cannot be met, records of other images.
    """
    given = _given(wish)
    wanted = {key: value for key, value in given.items() if key in WISHES}
    how = {key: value for key, value in given.items() if key not in WISHES}
    if len(wanted) + bool(flops) > 1:
        raise ValueError(f"give one of {', '.join(WISHES)}")
    other = load_run(against) if against else None
    rows = []
    for run in map(load_run, runs):
        wishes = [{"flops": budget} for budget in flops or ()] or ([wanted] if wanted else _default_wishes(run))
        asked = [target if target == FULL else {**target, **how} for target in wishes]
        rows += [_row(run, policy, target, split, other, strict=bool(flops or wanted)) for target in asked]
    return rows


def evaluate_policies(runs: Sequence[str], *, split: str = "test") -> list[dict[str, Any]]:
    """Every policy, and `VARIANTS` of confidence, under each of `ALL_WISHES`: rows as of `evaluate_runs`.

    What needs logits is left out where val or ``split`` has none; a budget that a run cannot meet is left out too.
    """
    rows = []
    for run in map(load_run, runs):
        val, record = run.record("val"), run.record(split)
        logits = val.logits is not None and record.logits is not None
        variants = [how for how in VARIANTS if logits or "temperatures" not in how]
        asked = [(name, how) for name in POLICIES for how in ({}, *(variants if name == "confidence" else ()))]
        wishes = [wish for wish in ALL_WISHES if wish.get("flops", np.inf) >= val.flops_fraction[0]]
        rows += [_row(run, name, {**wish, **how}, split, None, strict=True) for name, how in asked for wish in wishes]
    return rows


def evaluate_protocol(runs: Sequence[str], protocol: str, *, split: str = "test") -> list[dict[str, Any]]:
    """MSDNet's curves: ``anytime``, a row per exit, or ``budgeted``, a row per share that goes on (0, 10, … 100 %)."""
    policy = lookup(PROTOCOLS, protocol, "protocol")
    rows = []
    for run in map(load_run, runs):
        settings = range(1, run.record(split).n_exits + 1) if protocol == "anytime" else np.linspace(0, 1, 11).round(1)
        for setting in map(float, settings):
            row = _row(run, policy, {"threshold": setting}, split, None, strict=True)
            rows.append(row | {"target": {protocol: setting}})
    return rows


def _given(wish: Wish) -> dict[str, Any]:
    given = {key: value for key, value in wish.items() if value is not None and value is not False}
    if "risk" not in given:  # ε and δ have defaults and say nothing alone
        given = {key: value for key, value in given.items() if key not in ("epsilon", "delta")}
    return given


def _default_wishes(run: Run) -> list[Wish]:
    record = run.record("val")
    met = [] if record.n_exits == 1 else [{"flops": b} for b in BUDGETS if record.flops_fraction[0] <= b]
    return [*met, FULL]


def _row(run: Run, policy: str, wish: Wish, split: str, other: Run | None, *, strict: bool) -> dict[str, Any]:
    record = run.record(split)
    fitted = fit_wish(run, policy, wish)
    exits = fitted.exits(record)
    target = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in wish.items()}
    row = {
        "run": run.name,
        "data": record.meta.data,
        "split": record.meta.split,
        "policy": policy,
        "target": target,
        "threshold": fitted.thresholds[0] if len(fitted.thresholds) == 1 else list(fitted.thresholds),
        **summarise(record, exits),
    }
    if fitted.temperatures:
        row["temperatures"] = list(fitted.temperatures)
    row |= {key: fitted.fitted[key] for key in ("certificate", "note") if key in fitted.fitted}
    return row if other is None else row | {"against": _compare(record, exits, other, policy, wish, strict=strict)}


def _compare(
    record: ExitRecord, exits: Any, other: Run, policy: str, wish: Wish, *, strict: bool
) -> dict[str, Any] | None:
    theirs = other.record(record.meta.split)
    if not same_images(record, theirs):
        raise ValueError(f"run {other.name!r} was not recorded on the same {record.meta.split} images")
    single = theirs.n_exits == 1
    if not strict and not single and wish.get("flops", np.inf) < theirs.flops_fraction[0]:
        return None  # it cannot meet this default budget
    their_exits = fit_wish(other, policy, FULL if single else wish).exits(theirs)
    rows = np.arange(record.n_images)
    result = summarise(theirs, their_exits)
    difference, low, high = bootstrap_difference(record.correct[rows, exits], theirs.correct[rows, their_exits])
    kept = {key: result[key] for key in ("accuracy", "flops_fraction", "mean_exit")}
    return {"run": other.name, **kept, "difference": difference, "low": low, "high": high}


def same_images(record: ExitRecord, other: ExitRecord) -> bool:
    """Whether two records are of the same images in the same order, as far as labels, data and indices tell."""
    same = [np.array_equal(record.labels, other.labels), record.meta.data == other.meta.data]
    if record.meta.indices is not None and other.meta.indices is not None:
        same.append(np.array_equal(record.meta.indices, other.meta.indices))
    return all(same)


def _wanted(target: Wish) -> Wish:
    return {key: value for key, value in target.items() if key not in _HOW}

"""Runs and a wish → what the fitted policy is worth: thresholds from val, judged on test.

In: names of runs and one wish (compute budgets, an accuracy drop, shares or thresholds). Out: one plain row per run and
wish, and the rows as a Markdown table. Another run is compared on the same images by a paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .fitting import fit_policy
from .metrics import bootstrap_difference, summarise
from .policy import POLICIES, Policy
from .record import ExitRecord
from .registry import lookup
from .run import Run, load_run

BUDGETS = (0.3, 0.5, 0.7, 1.0)  # without a wish
FULL = {"full_depth": True}  # the wish for every image at the last exit

Wish = Mapping[str, Any]


def fit_wish(run: Run, policy: str, wish: Wish) -> Policy:
    """The policy that fulfils ``wish`` on the run's val record; given thresholds alone need no record.

    Args:
        wish: arguments of `fit_policy` (those that are None do not count), or `FULL`.

    Raises:
        ValueError: as `fit_policy`, the run named; no val record.
    """
    kind = lookup(POLICIES, policy, "policy")
    given = {key: value for key, value in wish.items() if value is not None}
    if given == FULL:
        return kind((kind.nobody,))
    if given.keys() == {"threshold"}:
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
        flops: budgets, one row each. wish: one of ``accuracy_drop``, ``shares``, ``threshold`` instead. Without any:
            `BUDGETS` as far as the run can meet them, and full depth.
        against: a run to compare with under the same wish; one with a single exit is taken as it is.

    Raises:
        ValueError: unknown names, more than one wish, a wish that cannot be met, records of other images.
    """
    given = {key: value for key, value in wish.items() if value is not None}
    if len(given) + bool(flops) > 1:
        raise ValueError("give one of flops, accuracy_drop, shares, threshold")
    other = load_run(against) if against else None
    rows = []
    for run in map(load_run, runs):
        wishes = [{"flops": budget} for budget in flops or ()] or ([given] if given else _default_wishes(run))
        rows += [_row(run, policy, target, split, other, strict=bool(flops or given)) for target in wishes]
    return rows


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
    return row if other is None else row | {"against": _compare(record, exits, other, policy, wish, strict=strict)}


def _compare(
    record: ExitRecord, exits: Any, other: Run, policy: str, wish: Wish, *, strict: bool
) -> dict[str, Any] | None:
    theirs = other.record(record.meta.split)
    same = [np.array_equal(record.labels, theirs.labels), record.meta.data == theirs.meta.data]
    if record.meta.indices is not None and theirs.meta.indices is not None:
        same.append(np.array_equal(record.meta.indices, theirs.meta.indices))
    if not all(same):
        raise ValueError(f"run {other.name!r} was not recorded on the same {record.meta.split} images")
    single = theirs.n_exits == 1
    if not strict and not single and wish.get("flops", np.inf) < theirs.flops_fraction[0]:
        return None  # it cannot meet this default budget
    their_exits = fit_wish(other, policy, FULL if single else wish).exits(theirs)
    rows = np.arange(record.images)
    result = summarise(theirs, their_exits)
    difference, low, high = bootstrap_difference(record.correct[rows, exits], theirs.correct[rows, their_exits])
    kept = {key: result[key] for key in ("accuracy", "flops_fraction", "mean_exit")}
    return {"run": other.name, **kept, "difference": difference, "low": low, "high": high}


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`evaluate_runs`'s rows as the lines of a Markdown table."""
    cells = [["run", "wish", "accuracy", "compute", "mean exit", "left at exits 1, 2, … (%)", "threshold"]]
    against = next((row["against"]["run"] for row in rows if row.get("against")), None)
    if against:
        cells[0].append(f"points above {against} [95 %]")
    for row in rows:
        shares = " ".join(f"{100 * share:.0f}" for share in row["exit_shares"])
        accuracy, compute = f"{100 * row['accuracy']:.2f} %", f"{100 * row['flops_fraction']:.1f} %"
        line = [row["run"], describe(row["target"]), accuracy, compute, f"{row['mean_exit']:.2f}", shares]
        line.append("–" if row["target"] == FULL else _short(row["threshold"]))
        if against:
            seen = row["against"]
            numbers = [100 * seen[key] for key in ("difference", "low", "high")] if seen else []
            line.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers) if seen else "–")
        cells.append(line)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def describe(target: Wish) -> str:
    """A wish in a few words: ``30 %``, ``full``, ``drop 1 %`` …"""
    (key, value), *_ = target.items()
    if key == "flops":
        return f"{100 * value:g} %"
    if key == "accuracy_drop":
        return f"drop {100 * value:g} %"
    return "full" if key == "full_depth" else key


def _short(threshold: float | Sequence[float]) -> str:
    return f"{threshold:.4g}" if isinstance(threshold, int | float) else " ".join(f"{t:.3g}" for t in threshold)

"""Several runs on the same images under one budget: who they are, their numbers, their figures, the code for them.

In: runs and their records (from `loading`). Out: tables, figures and text; nothing is drawn here. Thresholds are fitted
on val; a run with a single exit, or without val, stands at full depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.services import cache, code_export

import dmpo_explore as dx
from dmpo_explore.analysis import agreement
from dmpo_explore.figures import compare, trade_off
from dmpo_explore.policies.catalogue import POLICIES

CURVE = 12  # budgets of the curve of differences
AT_DEPTH = "confidence"  # the rule of a run at full depth; it does not matter, but it must learn nothing


class Side(NamedTuple):
    """One run under one budget."""

    run: dx.Run
    record: dx.ExitRecord
    budget: float | None  # None: every image at the last exit
    here: cache.Applied

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def answers(self) -> agreement.Answers:
        """What it says about every image."""
        return agreement.Answers(self.name, self.record, self.here.exits)


def stand(run: dx.Run, record: dx.ExitRecord, split: str, policy: str, budget: float) -> Side:
    """The run under the budget; one with a single exit, or without a val record to choose on, at full depth."""
    chosen = budget if record.n_exits > 1 and "val" in run.splits() else None
    return Side(run, record, chosen, cache.applied(run, split, policy if chosen else AT_DEPTH, chosen))


def in_order(sides: Sequence[Side]) -> list[Side]:
    """As `trade_off_figure` colours them: those with several exits first."""
    return sorted(sides, key=lambda side: side.record.n_exits == 1)


def table(sides: Sequence[Side], base: Side) -> pd.DataFrame:
    """One row a run: numbers of `dx.summarise`, and the difference to ``base`` with its interval, as fractions."""
    rows = []
    for side in sides:
        s = side.here.summary
        difference = dx.bootstrap_difference(side.here.right, base.here.right)
        rows.append(
            {
                "run": side.name,
                "accuracy": s["accuracy"],
                "compute": s["flops_fraction"],
                "flops": s["flops_fraction"] * side.record.meta.reference_flops,
                "mean_exit": s["mean_exit"],
                **dict(zip(("difference", "low", "high"), difference, strict=True)),
            }
        )
    return pd.DataFrame(rows)


def interval(difference: float, low: float, high: float) -> str:
    """``+3.04 [+2.49, +3.58]``, in points."""
    return f"{100 * difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def class_accuracy(sides: Sequence[Side]) -> pd.DataFrame:
    """Index classes, one column a run, sorted by how much the runs differ; classes without images are left out."""
    labels, names = np.asarray(sides[0].record.labels), sides[0].record.meta.class_names
    counts = np.bincount(labels, minlength=len(names))
    with np.errstate(invalid="ignore"):
        columns = {s.name: np.bincount(labels, s.here.right, len(names)) / counts for s in sides}
    frame = pd.DataFrame(columns, index=pd.Index(names, name="class"))[counts > 0]
    spread = frame.max(axis=1) - frame.min(axis=1)
    return frame.iloc[np.argsort(-spread.to_numpy(), kind="stable")]


# -- figures --


def rule_of_curve(side: Side, policy: str) -> str:
    """The rule whose curve is drawn: ``policy``, unless that learns on a val record that the run does not have."""
    return policy if side.budget is not None or not POLICIES[policy].learns else AT_DEPTH


def curves_figure(sides: Sequence[Side], split: str, policy: str) -> go.Figure:
    """Accuracy over compute of every run (from `in_order`), and where each stands."""
    stands = {side.name: (side.here.summary["flops_fraction"], side.here.summary["accuracy"]) for side in sides}
    several = [side for side in sides if side.record.n_exits > 1]
    lines = {side.name: cache.trade_off(side.run, split, rule_of_curve(side, policy)) for side in several}
    singles = {name: place for name, place in stands.items() if name not in lines}
    figure = trade_off.trade_off_figure(lines, None, singles)
    return compare.mark_points(figure, {name: stands[name] for name in lines}, range(len(lines)))


def differences_figure(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    """`dx.figures.accuracy_difference_figure` on budgets that all runs can meet; None if no run can vary."""
    costs = [side.record.flops_fraction for side in sides if side.budget is not None]
    if not costs:
        return None
    low, high = max(float(c[0]) for c in costs), max(float(c[-1]) for c in costs)
    budgets = np.geomspace(low + 1e-6, max(high, low + 1e-3), CURVE).tolist()
    chosen = [(i, side) for i, side in enumerate(sides) if side is not base]
    tables = {side.name: _difference_table(side, base, split, policy, budgets) for _, side in chosen}
    return compare.accuracy_difference_figure(tables, [i for i, _ in chosen], base.name)


def _difference_table(side: Side, base: Side, split: str, policy: str, budgets: list[float]) -> pd.DataFrame:
    rows = []
    for budget in budgets:
        a, b = (s.here if s.budget is None else cache.applied(s.run, split, policy, budget) for s in (side, base))
        rows.append((budget, *dx.bootstrap_difference(a.right, b.right)))
    return pd.DataFrame(rows, columns=["budget", "difference", "low", "high"])


# -- code --


def python_code(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """A program that prints accuracy, compute and the difference to ``base`` of every run."""
    targets = {
        code_export.reference(side.run): _target(side) for side in [base, *(side for side in sides if side is not base)]
    }
    lines = "".join(f"    {name!r}: dx.Target.{target},\n" for name, target in targets.items())
    rule = f'{policy!r} if target.kind == "flops" else {AT_DEPTH!r}' if POLICIES[policy].learns else repr(policy)
    return (
        "import dmpo_explore as dx\n\n"
        f"targets = {{  # fitted on val; the others are compared with the first\n{lines}}}\noutcomes = {{}}\n"
        "for name, target in targets.items():\n"
        "    run = dx.load_run(name)\n"
        f"    policy = dx.fit_run_policy(run, {rule}, target)\n"
        f"    outcome = outcomes[name] = dx.apply(policy, run.record({split!r}))\n"
        "    s = outcome.summary()\n"
        "    difference = dx.bootstrap_difference(outcome.correct, next(iter(outcomes.values())).correct)\n"
        '    print(name, s["accuracy"], s["flops_fraction"], *difference)'
    )


def _target(side: Side) -> str:
    if side.budget is None:
        return "full_depth()"
    return f"flops({dx.Target.flops(side.budget).capped(cache.record(side.run, 'val')).value!r})"


def command_line(sides: Sequence[Side], base: Side, split: str, policy: str) -> str:
    """The same from the shell: runs that have a budget against ``base``; what has none in a line of its own."""
    free = [side for side in sides if side.budget is not None]
    lines = []
    if free and (base.budget is not None or base.record.n_exits == 1):
        names = " ".join(code_export.quoted(side.run) for side in free)
        wish = f"--policy {policy} --flops {free[0].budget!r} --split {split} --against {code_export.quoted(base.run)}"
        lines.append(f"dmpo-explore evaluate {names} {wish}")
    lines += [
        f"dmpo-explore evaluate {code_export.quoted(side.run)} --split {split}"
        for side in sides
        if side.record.n_exits == 1 and "val" in side.run.splits()
    ]
    return "\n".join(lines)

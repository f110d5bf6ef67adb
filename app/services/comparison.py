"""Several runs on the same images under one compute budget: their numbers and their figures.

In: runs and their records. Out: tables and figures; nothing is drawn here. Thresholds are fitted on calibration
(val where a run has none); a run with a single exit, or without either, is compared at full depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.services import own_runs, policies, records, run_facts, run_styles
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

CURVE = 12  # budgets of the curve of differences
AT_DEPTH = "confidence"  # the policy of a run at full depth; any policy that learns nothing
ROUNDING = 1e-9  # of a mean of equal numbers, relative
STOPS = 60  # budgets in GFLOPs
FIRST = 3  # runs compared unless others are chosen


class Budget(NamedTuple):
    """Compute that every run may spend on an image in the mean."""

    value: float
    gflops: bool = False  # the unit: GFLOPs, or the share of a run's plain backbone

    def share(self, record: dx.ExitRecord) -> float:
        """The budget as a share of the record's plain backbone."""
        return self.value * 1e9 / record.meta.reference_flops if self.gflops else self.value


class Side(NamedTuple):
    """One run under one budget."""

    point: OperatingPoint
    budget: float | None  # share of compute; None: every image exits at the last exit
    least: float | None = None  # GFLOPs of exit 1 where the budget is below them: every image exits there
    unavailable: str = ""  # why it is at full depth although it has a record to fit on: it cannot have the policy

    @property
    def name(self) -> str:
        """The run's name."""
        return self.point.run.name

    @property
    def record(self) -> dx.ExitRecord:
        """The run's record."""
        return self.point.record

    @property
    def outcome(self) -> dx.Outcome:
        """The exit and prediction of every image."""
        return self.point.outcome


def side(run: dx.Run, split: str, policy: str, budget: Budget) -> Side:
    """The run under the budget; one with a single exit, without a record to fit on, or that cannot have the policy, at
    full depth.

    No run spends more than its full depth; where exit 1 costs more than the budget, every image exits there.
    """
    record = records.record(run, split)
    whole = Side(OperatingPoint(run, split, policies.full_depth(AT_DEPTH)), None)
    if record.n_exits == 1 or not policies.can_fit(run):
        return whole
    if reason := policies.unavailable_reason(run, split, policy):
        return whole._replace(unavailable=reason)
    share, cheapest = budget.share(record), float(record.flops_fraction[0])
    least = cheapest * record.meta.reference_flops / 1e9 if share < cheapest else None
    share = max(share, cheapest * (1 + ROUNDING))
    target = dx.Target.flops(share).capped(records.record(run, run.fitting_split))
    try:
        return Side(OperatingPoint(run, split, policies.fitted(run, policy, target)), share, least)
    except Exception as error:  # of a plug-in's policy: the other runs stay on the page
        return whole._replace(unavailable=str(error) or type(error).__name__)


def in_order(sides: Sequence[Side]) -> list[Side]:
    """As `trade_off_figure` colours them: those with several exits first."""
    return sorted(sides, key=lambda side: side.record.n_exits == 1)


# -- which runs can be compared --


def usual_runs(names: Sequence[str], start: str, load: Callable[[str], dx.Run] = dx.load_run) -> list[str]:
    """``start`` and the first others on the same test images with the same backbone; for own scores with any."""
    found: dict[bool, list[str]] = {True: [], False: []}  # by whether the backbone is the same
    for name in names:
        try:
            ours, theirs = load(start), load(name)
            if name != start and len(found[True]) < FIRST - 1:
                found[_same_backbone(ours, theirs)].append(name)
        except (OSError, ValueError):  # among them: other images
            continue
    others = found[True] or (found[False] if start.endswith(own_runs.YOURS) else [])
    return [start, *others][:FIRST]


def _same_backbone(ours: dx.Run, theirs: dx.Run) -> bool:
    """Whether two runs on the same images have the same backbone; raises ValueError for other images."""
    if not own_runs.is_own(ours):
        return records.fingerprint(ours, "test").comparable(records.fingerprint(theirs, "test"))
    split = ours.splits()[0]
    if not same_images(ours, theirs, split):
        raise ValueError(f"{theirs.name} has other images")
    return not mixed([ours, theirs], split)


def common_splits(runs: Sequence[dx.Run]) -> list[str]:
    """Splits that all runs have recorded."""
    return sorted(set.intersection(*(set(run.splits()) for run in runs))) if runs else []


def same_images(first: dx.Run, other: dx.Run, split: str) -> bool:
    """Whether two runs' records of a split are of the same images; raises as `Run.record`."""
    known = dx.analysis.same_images(records.record(first, split), records.record(other, split))
    return known or taken_for_the_same(first, other, split)


def taken_for_the_same(first: dx.Run, other: dx.Run, split: str) -> bool:
    """Whether own scores name no images, and have the labels of the other run in the same order."""
    if not (own_runs.is_own(first) or own_runs.is_own(other)):
        return False
    ours, theirs = records.record(first, split), records.record(other, split)
    hashed = ours.meta.images_sha256 and theirs.meta.images_sha256
    return not hashed and ours.meta.data != theirs.meta.data and np.array_equal(ours.labels, theirs.labels)


def reference_gflops(runs: Sequence[dx.Run], split: str) -> dict[str, float]:
    """Run → GFLOPs of its plain backbone, to which its shares of compute are relative."""
    return {run.name: records.record(run, split).meta.reference_flops / 1e9 for run in runs}


def budget_range(runs: Sequence[dx.Run], split: str) -> tuple[int, int]:
    """Per cent of compute: from what the cheapest exit costs everywhere to the dearest full depth."""
    found = [records.record(run, split) for run in runs]
    costs = [record.flops_fraction for record in found if record.n_exits > 1] or [np.array([0.0, 1.0])]
    low = int(np.ceil(100 * max(float(cost[0]) for cost in costs) + 1e-9))
    return low, max(int(np.ceil(100 * max(float(cost[-1]) for cost in costs))), low + 1)


def usual_budget(runs: Sequence[dx.Run], gflops: bool = False) -> float:
    """What the first run with several exits uses under the usual policy where that is fitted; else full compute.

    A share of its plain backbone's compute, or GFLOPs.
    """
    for run in runs:
        if policies.can_fit(run) and (record := records.record(run, run.fitting_split)).n_exits > 1:
            point = OperatingPoint(run, run.fitting_split, run_facts.usual_policy(run, run.fitting_split))
            share = float(point.outcome.flops_fraction.mean())
            return share * record.meta.reference_flops / 1e9 if gflops else share
    return max(reference_gflops(runs, runs[0].splits()[0]).values()) if gflops else 1.0


def mixed(runs: Sequence[dx.Run], split: str) -> bool:
    """Whether the runs have different backbones: the same share of compute is not the same compute."""
    return len(set(reference_gflops(runs, split).values())) > 1


def gflops_stops(runs: Sequence[dx.Run], split: str) -> list[float]:
    """Budgets in GFLOPs from the cheapest exit to the dearest full depth, evenly on a logarithmic scale."""
    found = [np.asarray(records.record(run, split).meta.flops) / 1e9 for run in runs]
    costs = [cost for cost in found if len(cost) > 1] or found
    low, high = min(float(cost[0]) for cost in costs), max(float(cost[-1]) for cost in costs)
    inner = [float(f"{stop:.3g}") for stop in np.geomspace(low, max(high, 1.01 * low), STOPS)]
    return sorted({_upwards(low), *(stop for stop in inner if low < stop < high), _upwards(high)})


def _upwards(number: float) -> float:
    """The next number of three digits that is not smaller."""
    unit = 10.0 ** (np.floor(np.log10(number)) - 2)
    return float(f"{np.ceil(number / unit - 1e-9) * unit:.3g}")


# -- numbers --


def table(sides: Sequence[Side], base: Side) -> pd.DataFrame:
    """One row per run: numbers of its outcome, and the difference to ``base`` with its interval, as fractions."""
    rows = []
    for side in sides:
        s = side.outcome.summary()
        difference = dx.bootstrap_difference(side.outcome.correct, base.outcome.correct)
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
    return f"{100 * difference:+z.2f} [{100 * low:+z.2f}, {100 * high:+z.2f}]".replace("-", "−")


def class_accuracy(sides: Sequence[Side]) -> pd.DataFrame:
    """Accuracy by class, one column per run, sorted by how much the runs differ; classes without images are absent."""
    labels, names = np.asarray(sides[0].record.labels), sides[0].record.meta.class_names
    counts, labelled = np.bincount(labels, minlength=len(names)), dx.figures.unique_labels(names, 200)
    with np.errstate(invalid="ignore"):
        columns = {s.name: np.bincount(labels, s.outcome.correct, len(names)) / counts for s in sides}
    frame = pd.DataFrame(columns, index=pd.Index(labelled, name="class"))[counts > 0]
    spread = frame.max(axis=1) - frame.min(axis=1)
    return frame.iloc[np.argsort(-spread.to_numpy(), kind="stable")]


def disagreements(a: Side, b: Side) -> Mapping[str, np.ndarray]:
    """Kind of disagreement → (B,) mask."""
    return dx.analysis.parts(a.outcome, b.outcome)


# -- figures --


def policy_of_curve(side: Side, policy: str) -> str:
    """The policy whose curve is drawn: ``policy``, unless the run cannot have it."""
    return AT_DEPTH if policies.unavailable_reason(side.point.run, side.point.split, policy) else policy


def curves_figure(sides: Sequence[Side], split: str, policy: str) -> go.Figure:
    """Accuracy over compute of every run (from `in_order`), and the operating point of each."""
    summaries = {side.name: side.outcome.summary() for side in sides}
    points = {name: (s["flops_fraction"], s["accuracy"]) for name, s in summaries.items()}
    several = [side for side in sides if side.record.n_exits > 1]
    lines = {s.name: policies.trade_off(s.point.run, split, policy_of_curve(s, policy)) for s in several}
    singles = {name: point for name, point in points.items() if name not in lines}
    numbers = run_numbers(sides)
    figure = run_styles.coloured(dx.figures.trade_off_figure(lines, None, singles), numbers)
    figure = dx.figures.mark_points(figure, {n: points[n] for n in lines}, [numbers[n] for n in lines])
    references = reference_gflops([side.point.run for side in sides], split)
    return dx.figures.in_gflops(figure, references) if len(set(references.values())) > 1 else figure


def run_numbers(sides: Sequence[Side]) -> dict[str, int]:
    """Name → number of the run's colour, see `run_styles`."""
    names = [side.name for side in sides]
    return dict(zip(names, run_styles.places(names), strict=True))


def differences_figure(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    """`dx.figures.accuracy_difference_figure` on budgets that all runs can meet; None if no run has a budget."""
    found_records = [side.record for side in sides if side.budget is not None]
    if not found_records:
        return None
    gflops = mixed([side.point.run for side in sides], split)
    costs = [np.asarray(r.meta.flops) / 1e9 if gflops else r.flops_fraction for r in found_records]
    low, high = max(float(c[0]) for c in costs), max(float(c[-1]) for c in costs)
    budgets = [Budget(float(b), gflops) for b in np.geomspace(low * (1 + 1e-6), max(high, 1.01 * low), CURVE)]
    others, numbers = [side for side in sides if side is not base], run_numbers(sides)
    tables = {side.name: difference_table(side, base, split, policy, budgets) for side in others}
    colours = [numbers[side.name] for side in others]
    return dx.figures.accuracy_difference_figure(tables, colours, base.name, gflops=gflops)


def difference_table(one: Side, base: Side, split: str, policy: str, budgets: Sequence[Budget]) -> pd.DataFrame:
    """One row per budget: the difference in accuracy with its interval; runs at full depth stay there."""
    rows = []
    for budget in budgets:
        a, b = (s if s.budget is None else side(s.point.run, split, policy, budget) for s in (one, base))
        rows.append((budget.value, *dx.bootstrap_difference(a.outcome.correct, b.outcome.correct)))
    return pd.DataFrame(rows, columns=["budget", "difference", "low", "high"])

"""Several runs on the same images under one budget of compute or time: their numbers and their figures. Thresholds are
fitted on calibration (val where a run has none); a run with a single exit, or without either, has full depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.services import own_runs, policies, records, run_styles
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

CURVE = 12  # budgets of the curve of differences
AT_DEPTH = "confidence"  # the policy of a run at full depth; any policy that learns nothing
ROUNDING = 1e-9  # of a mean of equal numbers, relative
LONG = 200  # characters of a class's name in the table, and where a mark is pointed at
FIRST = 6  # runs compared unless others are chosen


class Wanted(NamedTuple):
    """The mean budget of an image, in GFLOPs or, with ``times`` of stages, in milliseconds; and what may be lost: a
    fraction of accuracy below the best full model, or a ``risk`` of early-exit errors, with 95 % confidence."""

    budget: float
    lose: float | None = None
    risk: float | None = None
    times: Mapping[str, dx.runs.StageTimes] | None = None

    @property
    def unit(self) -> str:
        return "GFLOPs" if self.times is None else "ms"

    def costed(self, name: str, record: dx.ExitRecord) -> dx.ExitRecord:
        """The record with FLOPs or, on the scale of GFLOPs, milliseconds; ValueError where a run is not timed."""
        if self.times is None:
            return record
        if name not in self.times:
            raise ValueError("it is not timed on this device")
        return self.times[name].timed(record)

    def reference(self, name: str, record: dx.ExitRecord) -> float:
        """The cost, in the unit, to which the record's fractions are relative."""
        found = self.costed(name, record).meta.reference_flops
        return found / 1e9 if self.times is None else found


class Enough(NamedTuple):
    """A budget that would do, and the run that keeps it."""

    budget: float
    name: str


class Side(NamedTuple):
    """One run under one budget."""

    point: OperatingPoint
    fitted: bool  # to the budget or to the risk; else every image exits at the last exit
    refused: str = ""  # why it cannot keep the budget or the bound

    @property
    def name(self) -> str:
        return self.point.run.name

    @property
    def record(self) -> dx.ExitRecord:
        return self.point.record

    @property
    def outcome(self) -> dx.Outcome:
        return self.point.outcome

    def cost(self, wanted: Wanted) -> float:
        """Mean cost of an image in the unit of the budget; NaN where the run is not timed."""
        try:
            record = wanted.costed(self.name, self.record)
        except ValueError:
            return math.nan
        share = float(record.flops_fraction[self.outcome.exits].mean())
        return share * wanted.reference(self.name, self.record)


def side(run: dx.Run, split: str, policy: str, wanted: Wanted) -> Side:
    """The run under the budget; at full depth with a single exit, without a record to fit on, or without the policy.
    Where exit 1 costs more than the budget, every image exits there."""
    record = records.record(run, split)
    whole = Side(OperatingPoint(run, split, policies.full_depth(AT_DEPTH)), fitted=False)
    try:
        unit, scale = wanted.unit, wanted.reference(run.name, record)
        costs = wanted.costed(run.name, record).flops_fraction * scale
        if record.n_exits == 1 or not policies.can_fit(run):
            why = "it has a single exit" if record.n_exits == 1 else "nothing to fit thresholds on"
            over = f"{why}: every image needs {costs[-1]:.3g} {unit}" if costs[-1] > wanted.budget else ""
            return whole._replace(refused=over)
        if reason := policies.unavailable_reason(run, split, policy):
            return whole._replace(refused=f"{policy} is unavailable: {reason}")
        if wanted.risk is not None:
            return _under_risk(run, split, policy, wanted)
        share = max(np.floor(wanted.budget / scale * 1e5) / 1e5, float(f"{costs[0] * (1 + ROUNDING) / scale:.12g}"))
        fitted = _fitted(run, policy, share, wanted)
    except Exception as error:  # of a plug-in's policy, or a run without times: the other runs stay on the page
        return whole._replace(refused=str(error) or type(error).__name__)
    over = f"its exit 1, where all images exit, needs {costs[0]:.3g} {unit}" if costs[0] > wanted.budget else ""
    return Side(OperatingPoint(run, split, fitted), fitted=True, refused=over)


def _fitted(run: dx.Run, policy: str, share: float, wanted: Wanted) -> dx.Policy:
    """The most accurate thresholds within a share of the reference cost."""
    held_out = records.record(run, run.fitting_split)
    timed = wanted.costed(run.name, held_out)
    target = dx.Target.flops(share).capped(timed)
    if wanted.times is None:
        return policies.fitted(run, policy, target)
    thresholds = dx.fit_policy(timed, policy, target=target).thresholds  # on milliseconds: only these can be repeated
    return dx.fit_policy(held_out, policy, target=dx.Target.threshold(thresholds))


def _under_risk(run: dx.Run, split: str, policy: str, wanted: Wanted) -> Side:
    """The run with the cheapest thresholds that keep the bound, whatever they cost."""
    found = Side(OperatingPoint(run, split, policies.fitted(run, policy, bound(wanted.risk))), fitted=True)
    cost = found.cost(wanted)
    text = f"that bound needs {cost:.3g} {wanted.unit}" if cost > wanted.budget else ""
    return found._replace(refused=text)


def bound(risk: float | None) -> dx.Target:
    """The target of a bound on early-exit errors; None: the library's usual one."""
    return dx.Target.risk("too_early") if risk is None else dx.Target.risk("too_early", epsilon=risk)


def choose(sides: Sequence[Side], wanted: Wanted) -> dx.analysis.RunChoice:
    """The runs in order, and the best that keeps the budget and what may be lost."""
    refused = {side.name: side.refused for side in sides if side.refused}
    costs = {side.name: side.cost(wanted) for side in sides}
    return dx.analysis.choose_run({side.name: side.outcome for side in sides}, wanted.lose, refused, costs)


def least_budget(sides: Sequence[Side], wanted: Wanted) -> Enough | None:
    """The smallest of `CURVE` budgets above the wanted one at which a run keeps the limit, and that run."""
    runs = [side.point.run for side in sides]
    split, policy = sides[0].point.split, next((s.point.policy.name for s in sides if s.fitted), AT_DEPTH)
    low, high = budget_range(runs, split, wanted)
    for budget in np.geomspace(max(low, wanted.budget), max(high, 1.01 * wanted.budget), CURVE)[1:]:
        more = wanted._replace(budget=upwards(float(budget)))
        found = choose([side(run, split, policy, more) for run in runs], more)
        if found.best is not None:
            return Enough(more.budget, found.best)
    return None


def in_order(sides: Sequence[Side]) -> list[Side]:
    """As `trade_off_figure` colours them: those with several exits first."""
    return sorted(sides, key=lambda side: side.record.n_exits == 1)


# -- which runs can be compared --


def usual_runs(names: Sequence[str], start: str, load: Callable[[str], dx.Run] = dx.load_run) -> list[str]:
    """``start`` and the first others on the same test images, those with the same backbone first."""
    found: dict[bool, list[str]] = {True: [], False: []}  # by whether the backbone is the same
    for name in names:
        try:
            ours, theirs = load(start), load(name)
            split = "test" if "test" in ours.splits() else ours.splits()[0]
            prints = records.fingerprint(ours, split), records.fingerprint(theirs, split)
            if name != start and (prints[0].same_images(prints[1]) or taken_for_the_same(ours, theirs, split)):
                found[prints[0].reference_flops == prints[1].reference_flops].append(name)
        except (OSError, ValueError):
            continue
    return [start, *found[True], *found[False]][:FIRST]


def common_splits(runs: Sequence[dx.Run]) -> list[str]:
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


def budget_range(runs: Sequence[dx.Run], split: str, wanted: Wanted) -> tuple[float, float]:
    """From what the cheapest exit costs to the dearest full depth, in the unit of the budget."""
    timed = [run for run in runs if wanted.times is None or run.name in wanted.times]
    read = {run.name: records.record(run, split) for run in timed}
    costs = [wanted.costed(*one).flops_fraction * wanted.reference(*one) for one in read.items()]
    return float(min(cost[0] for cost in costs)), upwards(float(max(cost[-1] for cost in costs)))


def upwards(number: float) -> float:
    """The next number of three digits that is not smaller."""
    unit = 10.0 ** (np.floor(np.log10(number)) - 2)
    return float(f"{np.ceil(number / unit - 1e-9) * unit:.3g}")


# -- numbers --


def interval(difference: float, low: float, high: float) -> str:
    """``+3.04 [+2.49, +3.58]``, in points."""
    return f"{100 * difference:+z.2f} [{100 * low:+z.2f}, {100 * high:+z.2f}]".replace("-", "−")


def class_accuracy(sides: Sequence[Side]) -> pd.DataFrame:
    """Accuracy by class, one column per run, sorted by how much the runs differ; classes without images are absent.
    They are the first run's: a file of scores may have more or fewer, which no image has."""
    index = pd.Index(dx.figures.unique_labels(sides[0].record.meta.class_names, LONG), name="class")
    columns = {s.name: dx.analysis.class_metrics(s.outcome)["accuracy"] for s in sides}
    frame = pd.DataFrame(columns).reindex(range(len(index))).set_index(index).dropna()
    return frame.iloc[np.argsort(-np.ptp(frame.to_numpy(), axis=1), kind="stable")]


def axis_labels(sides: Sequence[Side], frame: pd.DataFrame) -> list[str]:
    """Short names of the classes of a `class_accuracy`; their numbers do not depend on which of them are shown."""
    names = sides[0].record.meta.class_names
    short = dict(zip(dx.figures.unique_labels(names, LONG), dx.figures.unique_labels(names), strict=True))
    return [short[name] for name in frame.index]


# -- figures --


def policy_of_curve(side: Side, policy: str) -> str:
    """The policy whose curve is drawn: ``policy``, unless the run cannot have it."""
    return AT_DEPTH if policies.unavailable_reason(side.point.run, side.point.split, policy) else policy


def curves_figure(sides: Sequence[Side], split: str, policy: str, wanted: Wanted, least: float | None) -> go.Figure:
    """Accuracy over cost of every run (from `in_order`), its operating point, the budget, and the least accuracy."""
    sides = [side for side in sides if not math.isnan(side.cost(wanted))]
    scales = {side.name: wanted.reference(side.name, side.record) for side in sides}
    points = {s.name: (s.cost(wanted) / scales[s.name], s.outcome.summary()["accuracy"]) for s in sides}
    lines = {s.name: _curve(s, split, policy, wanted) for s in sides if s.record.n_exits > 1}
    singles = {name: point for name, point in points.items() if name not in lines}
    numbers = run_numbers(sides)
    figure = run_styles.coloured(dx.figures.trade_off_figure(lines, None, singles), numbers)
    figure = dx.figures.mark_points(figure, {n: points[n] for n in lines}, [numbers[n] for n in lines])
    words = "" if wanted.lose is None else f"points lost: {100 * wanted.lose:g}"
    return dx.figures.mark_limits(dx.figures.in_gflops(figure, scales, wanted.unit), wanted.budget, least, words)


def _curve(side: Side, split: str, policy: str, wanted: Wanted) -> pd.DataFrame:
    run, policy = side.point.run, policy_of_curve(side, policy)
    if wanted.times is None:
        return policies.trade_off(run, split, policy)
    return dx.trade_off(wanted.costed(side.name, side.record), policies.base(run, split, policy))


def run_numbers(sides: Sequence[Side]) -> dict[str, int]:
    """Name → number of the run's colour, see `run_styles`."""
    names = [side.name for side in sides]
    return dict(zip(names, run_styles.places(names), strict=True))


def differences_figure(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    """`dx.figures.accuracy_difference_figure` on budgets that all runs can meet; None if no run has a budget."""
    costs = [np.asarray(side.record.meta.flops) / 1e9 for side in sides if side.fitted]
    if not costs:
        return None
    low, high = max(float(c[0]) for c in costs), max(float(c[-1]) for c in costs)
    budgets = [Wanted(float(b)) for b in np.geomspace(low * (1 + 1e-6), max(high, 1.01 * low), CURVE)]
    others, numbers = [side for side in sides if side is not base], run_numbers(sides)
    tables = {side.name: difference_table(side, base, split, policy, budgets) for side in others}
    colours = [numbers[side.name] for side in others]
    return dx.figures.accuracy_difference_figure(tables, colours, base.name, gflops=True)


def difference_table(one: Side, base: Side, split: str, policy: str, budgets: Sequence[Wanted]) -> pd.DataFrame:
    """One row per budget that ``one`` can meet: the difference in accuracy with its interval."""
    least, rows = 0.0 if one.fitted else float(one.record.meta.flops[-1]) / 1e9, []
    for budget in [budget for budget in budgets if budget.budget >= least] or [Wanted(least)]:
        a, b = (side(s.point.run, split, policy, budget) if s.fitted else s for s in (one, base))
        rows.append((budget.budget, *dx.bootstrap_difference(a.outcome.correct, b.outcome.correct)))
    return pd.DataFrame(rows, columns=["budget", "difference", "low", "high"])

"""Several runs on the same images, each at the thresholds that keep a loss, a bound or a budget: numbers and figures.
Thresholds are fitted on calibration (val where a run has none); a run with a single exit, or without either,
has full depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.services import own_runs, policies, records, run_styles
from dmpo_explore_app.services.policies import OperatingPoint
from numpy.typing import NDArray

import dmpo_explore as dx

CURVE = 12  # budgets of the curve of differences
AT_DEPTH = "confidence"  # the policy of a run at full depth; any policy that learns nothing
ROUNDING = 1e-9  # of a mean of equal numbers, relative
LONG = 200  # characters of a class's name in the table, and where a mark is pointed at
FIRST = 6  # runs compared unless others are chosen


class Wanted(NamedTuple):
    """What may be spent or lost, one of the first three; the run at whose full depth losses and savings are measured;
    times of stages, with which costs are milliseconds and not GFLOPs."""

    budget: float | None = None  # mean cost of an image
    lose: float | None = None  # a fraction of accuracy below the reference
    risk: float | None = None  # a bound on early-exit errors, with 95 % confidence
    reference: dx.Run | None = None
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

    def scale(self, name: str, record: dx.ExitRecord) -> float:
        """The cost, in the unit, to which the record's fractions are relative."""
        found = self.costed(name, record).meta.reference_flops
        return found / 1e9 if self.times is None else found

    def costs(self, name: str, record: dx.ExitRecord) -> NDArray[np.float64]:
        """(K,) what an image costs that exits at each exit, in the unit."""
        return self.costed(name, record).flops_fraction * self.scale(name, record)

    def spent_by_reference(self, split: str) -> float:
        """Cost of the reference's full depth, in the unit; NaN without one, and where it is not timed."""
        if self.reference is None:
            return math.nan
        try:
            return float(self.costs(self.reference.name, records.record(self.reference, split))[-1])
        except ValueError:
            return math.nan


class Side(NamedTuple):
    """One run at the thresholds that keep what was asked for."""

    point: OperatingPoint
    fitted: bool  # else every image exits at the last exit
    refused: str = ""  # why it cannot be taken

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
        """Mean cost of an image in the unit; NaN where the run is not timed."""
        try:
            return float(wanted.costs(self.name, self.record)[self.outcome.exits].mean())
        except ValueError:
            return math.nan

    def saved(self, wanted: Wanted) -> float:
        """The share of the reference's cost that is saved; NaN where one of them is not timed."""
        return 1 - self.cost(wanted) / wanted.spent_by_reference(self.point.split)


def side(run: dx.Run, split: str, policy: str, wanted: Wanted) -> Side:
    """The run at what was asked for; at full depth with a single exit, without a record to fit on, or without the
    policy. Where exit 1 costs more than a budget, every image exits there."""
    record = records.record(run, split)
    found = Side(OperatingPoint(run, split, policies.full_depth(AT_DEPTH)), fitted=False)
    try:
        costs = wanted.costs(run.name, record)
        if record.n_exits > 1 and policies.can_fit(run):
            if reason := policies.unavailable_reason(run, split, policy):
                return found._replace(refused=f"{policy} is unavailable: {reason}")
            found = Side(OperatingPoint(run, split, _fitted(run, policy, costs, wanted)), fitted=True)
    except Exception as error:  # of a plug-in's policy, or a run without times: the other runs stay on the page
        return found._replace(refused=str(error) or type(error).__name__)
    return found._replace(refused=_too_dear(found, costs, wanted))


def _too_dear(side: Side, costs: NDArray[np.float64], wanted: Wanted) -> str:
    """Why a run is no answer, by its cost alone: above the budget, or not below what the reference costs."""
    least, reference = costs[0] if side.fitted else costs[-1], wanted.reference
    if wanted.budget is not None and least > wanted.budget:
        why = "it has a single exit" if side.record.n_exits == 1 else "nothing to fit thresholds on"
        why = "its exit 1, where all images exit," if side.fitted else f"{why}: every image"
        return f"{why} needs {least:.3g} {wanted.unit}"
    if wanted.budget is None and side.saved(wanted) <= ROUNDING:
        same = reference is not None and reference.name == side.name
        return "the others are compared with it" if same else "it saves nothing"
    return ""


def _fitted(run: dx.Run, policy: str, costs: NDArray[np.float64], wanted: Wanted) -> dx.Policy:
    """The most accurate thresholds within the budget, or the cheapest that keep the loss or the bound; where none
    keeps the loss, the most accurate ones."""
    held_out = run.fitting_split
    if wanted.risk is not None:
        return policies.fitted(run, policy, bound(wanted.risk))
    if wanted.lose is not None:
        table = _table(run, held_out, policy, wanted)
        enough = table["accuracy"] >= min(_full_depth(wanted, held_out) - wanted.lose, table["accuracy"].max()) - 1e-12
        cheapest = table[enough].sort_values("flops_fraction", kind="stable").iloc[0]
        return policies.fitted(run, policy, dx.Target.threshold(float(cheapest["threshold"])))
    assert wanted.budget is not None
    scale = wanted.scale(run.name, records.record(run, held_out))
    share = max(np.floor(wanted.budget / scale * 1e5) / 1e5, float(f"{costs[0] * (1 + ROUNDING) / scale:.12g}"))
    timed = wanted.costed(run.name, records.record(run, held_out))
    target = dx.Target.flops(share).capped(timed)
    if wanted.times is None:
        return policies.fitted(run, policy, target)
    thresholds = dx.fit_policy(timed, policy, target=target).thresholds  # on milliseconds: only these can be repeated
    return policies.fitted(run, policy, dx.Target.threshold(thresholds))


def _full_depth(wanted: Wanted, split: str) -> float:
    """Accuracy of the reference's last exit; 1 without a reference."""
    if wanted.reference is None:
        return 1.0
    if split not in wanted.reference.splits():
        raise ValueError(f"{wanted.reference.name}, which it is compared with, has no record of {split}")
    return float(records.record(wanted.reference, split).correct[:, -1].mean())


def bound(risk: float | None) -> dx.Target:
    """The target of a bound on early-exit errors; None: the library's usual one."""
    return dx.Target.risk("too_early") if risk is None else dx.Target.risk("too_early", epsilon=risk)


def held_out(sides: Sequence[Side]) -> dict[str, dx.Outcome] | None:
    """Name → outcome on the images that thresholds were fitted on; None unless all runs have the same ones."""
    points, first = [side.point for side in sides], sides[0].point.run
    if not all(policies.can_fit(point.run) and point.run.fitting_split == first.fitting_split for point in points):
        return None
    if not all(same_images(first, point.run, first.fitting_split) for point in points):
        return None
    return {p.run.name: OperatingPoint(p.run, p.run.fitting_split, p.policy).outcome for p in points}


def choose(sides: Sequence[Side], wanted: Wanted) -> dx.analysis.RunChoice:
    """The runs in order, and the best that keeps what was asked for."""
    refused = {side.name: side.refused for side in sides if side.refused}
    costs = {side.name: side.cost(wanted) for side in sides}
    outcomes = {side.name: side.outcome for side in sides}
    reference = None if wanted.reference is None else wanted.reference.name
    judged = held_out(sides)
    return dx.analysis.choose_run(outcomes, wanted.lose, refused, costs, reference=reference, held_out=judged)


def nearest(sides: Sequence[Side], wanted: Wanted, found: dx.analysis.RunChoice) -> tuple[Side | None, float]:
    """Of the runs that save something the first that more points would let in, and how many; None without any."""
    saving = [side for side in sides if not side.refused]
    judged, rows, lost = held_out(sides) or {}, found.table.set_index("run"), list[float]()
    for side in saving:
        seen = judged.get(side.name, side.outcome)
        whole = judged.get(found.reference, side_of(sides, found.reference).outcome)
        points = float(whole.record.correct[:, -1].mean() - seen.correct.mean())
        lost.append(max(points, float(rows["low"][side.name]) if judged else points))  # what is shown may contradict
    if not saving:
        return None, math.nan
    return saving[int(np.argmin(lost))], math.ceil(1000 * min(lost) - 1e-9) / 10


def side_of(sides: Sequence[Side], name: str) -> Side:
    return next(side for side in sides if side.name == name)


def in_order(sides: Sequence[Side]) -> list[Side]:
    """As `trade_off_figure` colours them: those with several exits first."""
    return sorted(sides, key=lambda side: side.record.n_exits == 1)


# -- which runs can be compared --


def usual_reference(runs: Sequence[dx.Run], split: str) -> str:
    """The run with the most accurate last exit: on val, or calibration, where all have it, else on ``split``."""
    on = next((held for held in ("val", "calibration") if all(held in run.splits() for run in runs)), split)
    return max(runs, key=lambda run: float(records.record(run, on).correct[:, -1].mean())).name


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
    costs = [wanted.costs(run.name, records.record(run, split)) for run in timed]
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
    scales = {side.name: wanted.scale(side.name, side.record) for side in sides}
    points = {s.name: (s.cost(wanted) / scales[s.name], s.outcome.summary()["accuracy"]) for s in sides}
    lines = {s.name: _curve(s, split, policy, wanted) for s in sides if s.record.n_exits > 1}
    singles = {name: point for name, point in points.items() if name not in lines}
    numbers = run_numbers(sides)
    figure = run_styles.coloured(dx.figures.trade_off_figure(lines, None, singles), numbers)
    figure = dx.figures.mark_points(figure, {n: points[n] for n in lines}, [numbers[n] for n in lines])
    reference = "" if wanted.reference is None else f" of {wanted.reference.name}"
    words = "" if wanted.lose is None else f"{100 * wanted.lose:g} points lost{reference}"
    return dx.figures.mark_limits(dx.figures.in_gflops(figure, scales, wanted.unit), wanted.budget, least, words)


def _curve(side: Side, split: str, policy: str, wanted: Wanted) -> pd.DataFrame:
    return _table(side.point.run, split, policy_of_curve(side, policy), wanted)


def _table(run: dx.Run, split: str, policy: str, wanted: Wanted) -> pd.DataFrame:
    """`dx.trade_off` over FLOPs or milliseconds."""
    if wanted.times is None:
        return policies.trade_off(run, split, policy)
    return dx.trade_off(wanted.costed(run.name, records.record(run, split)), policies.base(run, split, policy))


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
    for budget in [budget for budget in budgets if (budget.budget or 0.0) >= least] or [Wanted(least)]:
        a, b = (side(s.point.run, split, policy, budget) if s.fitted else s for s in (one, base))
        rows.append((budget.budget, *dx.bootstrap_difference(a.outcome.correct, b.outcome.correct)))
    return pd.DataFrame(rows, columns=["budget", "difference", "low", "high"])

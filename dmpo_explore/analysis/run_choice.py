"""Which of several runs to take where some accuracy may be lost, or where compute is limited.

In: outcomes of the runs on the same images, each at the thresholds that were fitted for what may be lost or spent.
Out: a `RunChoice`: the runs in order, why some are refused, and the best with its interval against the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..fitting.target import loss_fraction
from ..utils.registry import unknown
from .metrics import Outcome, bootstrap_difference, check_same_images

if TYPE_CHECKING:
    import pandas as pd


class RunChoice(NamedTuple):
    """The runs in order and the best of them.

    Args:
        table: a row for each run, the best first and refused ones last: ``run``, ``accuracy``, ``flops``,
            ``flops_fraction``, ``lost`` with ``low`` and ``high`` (accuracy below ``reference``, 95 %), ``reason``.
        reference: the run whose accuracy at the last exit is what can be lost.
        best, next: the run to take and the one after it. None where no run, or only one, is left.
        lead: accuracy of ``best`` above that of ``next`` with its paired 95 % interval; None without a next.

    Example:
        >>> import pandas as pd
        >>> RunChoice(pd.DataFrame(), "wide", best="wide", next=None, lead=None).best
        'wide'
    """

    table: pd.DataFrame
    reference: str
    best: str | None
    next: str | None
    lead: tuple[float, float, float] | None


def choose_run(
    outcomes: Mapping[str, Outcome],
    lose: float | None = None,
    refused: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    *,
    reference: str | None = None,
    held_out: Mapping[str, Outcome] | None = None,
) -> RunChoice:
    """The cheapest run of those that lose at most ``lose`` against the full depth of ``reference``.

    Without ``lose`` the most accurate one, or a cheaper one that is too close to tell from it: the paired 95 %
    interval of their difference holds 0. What ``held_out`` says is dropped where ``outcomes`` contradict it: the whole
    interval of what a run loses there lies above the limit, or below another run that was as close.

    Args:
        outcomes: name → outcome on the same images; the table has their numbers. lose: a fraction.
        refused: name → reason, of runs that cannot be taken, such as those that cannot keep a budget.
        costs: name → mean cost of an image; by default its FLOPs.
        reference: one of the names; None: the run with the most accurate last exit.
        held_out: name → outcome on the images that thresholds were fitted on, on which the runs are judged. None: on
            ``outcomes``; the best of many on some images looks better there than it is.

    Raises:
        ValueError: no outcomes, or of different images; ``lose`` is no fraction below 1; another reference.

    Example:
        >>> import dmpo_explore as dx
        >>> target, held_out, outcomes = dx.Target.near_best(0.02), {}, {}
        >>> for name in ("demo", "demo-naive"):
        ...     run = dx.load_run(name)
        ...     policy = dx.fit_policy(run.record("calibration"), target=target)
        ...     held_out[name], outcomes[name] = (dx.apply(policy, run.record(s)) for s in ("calibration", "test"))
        >>> found = choose_run(outcomes, lose=0.02, held_out=held_out)
        >>> found.reference, found.best, found.table["reason"].tolist()
        ('demo-naive', 'demo-naive', ['', 'on calibration it loses 2.29 points, more than 2'])
    """
    import pandas as pd

    if not outcomes:
        raise ValueError("choose_run needs the outcome of at least one run")
    lose = None if lose is None else loss_fraction(lose, "lose")
    judged = held_out or outcomes
    for same in (outcomes, judged):
        check_same_images(same)
    full_depth = {name: float(outcome.record.correct[:, -1].mean()) for name, outcome in judged.items()}
    reference = max(full_depth, key=full_depth.__getitem__) if reference is None else reference
    if reference not in outcomes:
        raise ValueError(unknown("reference", reference, outcomes))
    accuracy = {name: float(outcome.correct.mean()) for name, outcome in judged.items()}
    rows, price = list[tuple[Any, ...]](), dict(costs or {})
    for name, outcome in outcomes.items():
        numbers, reason = _numbers(outcome, outcomes[reference]), (refused or {}).get(name, "")
        price.setdefault(name, numbers[1])
        lost = full_depth[reference] - accuracy[name]
        if not reason and lose is not None:
            reason = _lost_too_much(name, lose, lost, numbers[3:], judged, outcomes)
        rows.append((name, *numbers, reason))
    rows.sort(key=lambda row: (bool(row[-1]), -accuracy[row[0]] if lose is None else price[row[0]]))
    left = [row[0] for row in rows if not row[-1]]
    best = left[0] if left else None
    if best is not None and lose is None:
        first = judged[best].correct
        close = [n for n in left if n == best or bootstrap_difference(first, judged[n].correct)[1] <= 0]
        best = min((n for n in close if not _surely_below(n, close, outcomes)), key=price.__getitem__)
    rows.sort(key=lambda row: row[0] != best)
    columns = ["run", "accuracy", "flops", "flops_fraction", "lost", "low", "high", "reason"]
    table, second = pd.DataFrame(rows, columns=columns), next((name for name in left if name != best), None)
    if best is None or second is None:
        return RunChoice(table, reference, best, None, None)
    lead = bootstrap_difference(outcomes[best].correct, outcomes[second].correct)
    return RunChoice(table, reference, best, second, lead)


def _lost_too_much(
    name: str, lose: float, lost: float, shown: tuple[float, ...], judged: Mapping[str, Outcome],
    outcomes: Mapping[str, Outcome],
) -> str:  # fmt: skip
    """Why a run is refused, by what it loses where it is judged, and where it is shown (with the interval's ends)."""
    limit = f"{100 * lose:g}"
    if judged is outcomes:
        return f"loses {100 * lost:.2f} points, more than {limit}" if lost > lose + 1e-12 else ""
    here, there = (some[name].record.meta.split for some in (judged, outcomes))
    if lost > lose + 1e-12:
        return f"on {here} it loses {100 * lost:.2f} points, more than {limit}"
    difference, low, high = (100 * value for value in shown)
    text = f"at most {limit} on {here}, but on {there} it loses {difference:.2f} points (95%: {low:.2f} to {high:.2f})"
    return text if low > 100 * lose else ""


def _surely_below(name: str, others: Sequence[str], outcomes: Mapping[str, Outcome]) -> bool:
    """Whether another run's paired interval against this one lies above 0."""
    mine = outcomes[name].correct
    return any(bootstrap_difference(outcomes[other].correct, mine)[1] > 0 for other in others if other != name)


def _numbers(outcome: Outcome, reference: Outcome) -> tuple[float, ...]:
    """Accuracy, FLOPs, their fraction, and what is lost against the reference's last exit, with its interval."""
    numbers, full_depth = outcome.summary(), outcome.record.n_exits - 1
    itself = outcome is reference and bool((outcome.exits == full_depth).all())
    lost = (0.0, 0.0, 0.0) if itself else bootstrap_difference(reference.record.correct[:, -1], outcome.correct)
    flops = numbers["flops_fraction"] * outcome.record.meta.reference_flops
    return numbers["accuracy"], flops, numbers["flops_fraction"], *lost


def run_differences(outcomes: Mapping[str, Outcome], base: str) -> pd.DataFrame:
    """Numbers of every run, and its accuracy above that of ``base`` with the paired 95 % interval; fractions.

    Args:
        outcomes: name → outcome on the same images. base: one of the names.

    Returns:
        ``run``, ``accuracy``, ``compute``, ``flops``, ``mean_exit``, ``difference``, ``low``, ``high``.

    Raises:
        ValueError: outcomes of different images.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> record = dx.load_run("demo").record("test")
        >>> outcomes = {name: dx.Outcome(record, np.full(record.n_images, k)) for k, name in enumerate("ab")}
        >>> run_differences(outcomes, "a")["difference"].round(4).tolist()
        [0.0, 0.0215]
    """
    import pandas as pd

    check_same_images(outcomes)
    rows = []
    for name, outcome in outcomes.items():
        s = outcome.summary()
        flops = s["flops_fraction"] * outcome.record.meta.reference_flops
        itself = name == base
        difference = (0.0, 0.0, 0.0) if itself else bootstrap_difference(outcome.correct, outcomes[base].correct)
        rows.append((name, s["accuracy"], s["flops_fraction"], flops, s["mean_exit"], *difference))
    columns = ["run", "accuracy", "compute", "flops", "mean_exit", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)

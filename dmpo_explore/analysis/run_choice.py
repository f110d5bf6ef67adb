"""Which of several runs to take where compute is limited and some accuracy may be lost.

In: outcomes of the runs on the same images, each at the thresholds that its budget allows. Out: a `RunChoice`: the runs
in order, why some are refused, and the best with its interval against the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..fitting.target import loss_fraction
from .metrics import Outcome, bootstrap_difference, check_same_images

if TYPE_CHECKING:
    import pandas as pd


class RunChoice(NamedTuple):
    """The runs in order and the best of them.

    Args:
        table: a row for each run, the best first and refused ones last: ``run``, ``accuracy``, ``flops``,
            ``flops_fraction``, ``lost`` with ``low`` and ``high`` (accuracy below ``reference``, 95 %), ``reason``.
        reference: the run whose last exit is the most accurate of all; its accuracy there is what can be lost.
        best: the cheapest of the runs that are, within the interval, as accurate as the most accurate one that is left.
        next: the most accurate of the others. None where no run, or only one, is left.
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
) -> RunChoice:
    """The best run of those that lose at most ``lose`` against the best full model of all.

    The most accurate one, or a cheaper one that is too close to tell from it: the paired 95 % interval of their
    difference holds 0. The best of many on some images looks better there than it is: read it once more on others.

    Args:
        outcomes: name → outcome on the same images. lose: a fraction; None: any loss is allowed.
        refused: name → reason, of runs that cannot be taken, such as those that cannot keep the budget.
        costs: name → mean cost of an image; by default its FLOPs.

    Raises:
        ValueError: no outcomes, or of different images; ``lose`` is no fraction below 1.

    Example:
        >>> import dmpo_explore as dx
        >>> budget, outcomes = dx.Target.flops(0.3), {}
        >>> for name in ("demo", "demo-naive"):
        ...     run = dx.load_run(name)
        ...     outcomes[name] = dx.apply(dx.fit_policy(run.record("calibration"), target=budget), run.record("test"))
        >>> found = choose_run(outcomes, lose=0.05)
        >>> found.best, found.table["reason"].tolist()
        ('demo', ['', 'loses 10.46 points, more than 5'])
    """
    import pandas as pd

    if not outcomes:
        raise ValueError("choose_run needs the outcome of at least one run")
    lose = None if lose is None else loss_fraction(lose, "lose")
    check_same_images(outcomes)
    whole = {name: outcome.record.correct[:, -1] for name, outcome in outcomes.items()}
    reference = max(whole, key=lambda name: float(whole[name].mean()))
    rows: list[tuple[Any, ...]] = []
    for name, outcome in outcomes.items():
        numbers, reason = _numbers(outcome, outcomes[reference]), (refused or {}).get(name, "")
        lost = numbers[3]
        if not reason and lose is not None and lost > lose + 1e-12:
            reason = f"loses {100 * lost:.2f} points, more than {100 * lose:g}"
        rows.append((name, *numbers, reason))
    rows.sort(key=lambda row: (bool(row[-1]), -row[1]))
    columns = ["run", "accuracy", "flops", "flops_fraction", "lost", "low", "high", "reason"]
    table, price = pd.DataFrame(rows, columns=columns), costs or {row[0]: row[2] for row in rows}
    left = [row[0] for row in rows if not row[-1]]
    if not left:
        return RunChoice(table, reference, None, None, None)
    first = left[0]
    ahead = {name: bootstrap_difference(outcomes[first].correct, outcomes[name].correct) for name in left[1:]}
    best = min([first, *(name for name, (_, low, _) in ahead.items() if low <= 0)], key=lambda name: price[name])
    table = pd.concat([table[table["run"] == best], table[table["run"] != best]], ignore_index=True)
    second = next((name for name in left if name != best), None)
    lead = ahead.get(second or "")
    if second == first:  # the same interval from the other side
        difference, low, high = ahead[best]
        lead = (0 - difference, 0 - high, 0 - low)
    return RunChoice(table, reference, best, second, lead)


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

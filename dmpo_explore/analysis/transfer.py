"""Transfer: what a model and its thresholds do on images of another place, and what fitting them again repairs.

In: calibration and test records of one model at home, of images like those it was trained on, and away: of another
shop, camera or hospital. Out: what every exit loses away, and for each target what thresholds reached on the images
that they were fitted on and what they do on test, at home, away, and away after they were fitted again there. No torch.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..fitting.fit import fit_policy
from ..fitting.target import DEFAULT_TARGET, Target
from ..policies.catalogue import POLICIES
from ..policies.running import hold_budget
from ..records.record import ExitRecord
from ..runs.other_data import record_name, recorded_elsewhere
from ..runs.run import Run
from ..utils.registry import lookup
from .metrics import accuracy_interval
from .outcome import apply
from .shift import shift_table

TARGETS = (DEFAULT_TARGET, Target.flops(0.3), Target.risk("too_early", epsilon=0.05))
HOME, AWAY = "home", "away"
WAYS = ((HOME, HOME, False), (HOME, AWAY, False), (HOME, AWAY, True), (AWAY, AWAY, False))
"""Fitted on calibration of, tested on test of, and whether the exit shares are held there (`hold_budget`)."""


class HeldOut(NamedTuple):
    """The held-out records of one place: to fit on, and to test on.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> HeldOut(run.record("calibration"), run.record("test")).test.n_images
        10000
    """

    calibration: ExitRecord
    test: ExitRecord


class Transfer(NamedTuple):
    """What `transfer` finds.

    Args:
        exits: a row per exit: ``exit`` (from 1), ``home`` and ``away`` (accuracies on test), the ends of their 95 %
            intervals (``home_low`` …), and ``lost``, their difference.
        thresholds: four rows per target, `WAYS`: ``target`` (in words), ``fitted_on`` and ``tested_on`` (home or
            away), ``held`` (its thresholds follow the test images, in random order), ``fitted_accuracy`` and
            ``fitted_flops`` on the images that they were fitted on, and the columns of `shift_table` on test. No row is
            held where the policy compares no score.

    Example:
        >>> Transfer(pd.DataFrame({"exit": [1], "lost": [0.25]}), pd.DataFrame()).exits["lost"].tolist()
        [0.25]
    """

    exits: pd.DataFrame
    thresholds: pd.DataFrame


def transfer(home: HeldOut, away: HeldOut, targets: Sequence[Target] = TARGETS, policy: str = "confidence") -> Transfer:
    """What exits and thresholds do in another place, as tables; budgets below the cost of exit 1 are left out.

    Raises:
        ValueError: no budget can be met, records of other classes or exits, or as `fit_policy`.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> here = HeldOut(run.record("calibration"), run.record("test"))
        >>> found = transfer(here, here, [dx.Target.flops(0.3)])
        >>> float(found.exits["lost"].abs().max()), found.thresholds["flops_fraction"].round(3).tolist()
        (0.0, [0.242, 0.242, 0.24, 0.242])
    """
    places = {HOME: home, AWAY: away}
    first = home.calibration.meta
    for record in (*home, *away):
        if (record.meta.class_names, record.meta.exit_blocks) != (first.class_names, first.exit_blocks):
            raise ValueError(f"{record.described} has other classes or exits than that of {first.data} {first.split}")
    met = [target for target in targets if target.kind != "flops" or home.test.flops_fraction[0] <= target.value]
    met = met or [*targets[:1]]  # whose error says what exit 1 costs
    ways = [way for way in WAYS if not way[-1] or lookup(POLICIES, policy, "policy").holds]
    rows = [_tested(places, target, policy, *way) for target in met for way in ways]
    return Transfer(_exits(home.test, away.test), pd.DataFrame(rows))


def transfer_run(run: Run, data: str, targets: Sequence[Target] = TARGETS, policy: str = "confidence") -> Transfer:
    """`transfer` of a run to other data, whose calibration and test images it has recorded.

    Raises:
        ValueError: a record is missing (the message has the command), or as `transfer`.

    Example:
        >>> import dmpo_explore as dx
        >>> transfer_run(dx.load_run("demo"), "grocery-shops")
        Traceback (most recent call last):
        ValueError: run 'demo' has no record of grocery-shops calibration...
    """
    names = [record_name(data, split) for split in ("calibration", "test")]
    for name, split in zip(names, ("calibration", "test"), strict=True):
        if name not in run.splits():
            raise ValueError(
                f"run {run.name!r} has no record of {data} {split}; make it with "
                f"`dmpo-explore record {run.quoted} --other-data {shlex.quote(data)}`"
            )
    home, away = HeldOut(run.record(run.fitting_split), run.record("test")), HeldOut(*map(run.record, names))
    for record in away:  # folders of one name share it
        if record.meta.data not in (data, os.path.abspath(os.path.expanduser(data))):
            raise ValueError(f"{record.described} is no record of {data}; give the data it was made of")
    return transfer(home, away, targets, policy)


def transfer_places(run: Run) -> list[str]:
    """The data, besides its own, of which a run has recorded calibration and test: those that it can be transferred to.

    Example:
        >>> import dmpo_explore as dx
        >>> transfer_places(dx.load_run("fashion"))
        []
    """
    return [run.record(f"{name}-test").meta.data for name in recorded_elsewhere(run.splits())]


def _exits(home: ExitRecord, away: ExitRecord) -> pd.DataFrame:
    rows = []
    for k in range(home.n_exits):
        row: dict[str, float] = {"exit": k + 1}
        for name, record in ((HOME, home), (AWAY, away)):
            correct = record.correct[:, k]
            row |= {name: float(correct.mean())}
            row |= dict(zip((f"{name}_low", f"{name}_high"), accuracy_interval(correct), strict=True))
        rows.append(row | {"lost": row[HOME] - row[AWAY]})
    return pd.DataFrame(rows)


def _tested(
    places: dict[str, HeldOut], target: Target, policy: str, fitted_on: str, tested_on: str, held: bool
) -> dict[str, object]:
    calibration, test = places[fitted_on].calibration, places[tested_on].test
    fitted = fit_policy(calibration, policy, target.capped(calibration))
    there = apply(fitted, calibration)
    if held:
        fitted = hold_budget(fitted, calibration)
        test = test.subset(np.random.default_rng(0).permutation(test.n_images))
    (row,) = shift_table([(tested_on, 0, test)], {target.describe(): fitted}).to_dict("records")
    row |= {"fitted_accuracy": float(np.mean(there.correct)), "fitted_flops": float(np.mean(there.flops_fraction))}
    head = {"target": row.pop("policy"), "fitted_on": fitted_on, "tested_on": row.pop("corruption"), "held": held}
    del row["strength"]
    return head | {str(key): value for key, value in row.items()}

"""Fitted policies elsewhere: under distribution shift, and at a place whose images are others than those at home.

Distribution shift: fitted policies on corrupted images.
In: policies fitted on calibration or val, and records of corrupted images. Out: a table: accuracy, realised FLOPs,
calibration and whether a certified risk is exceeded, by corruption and strength. No torch.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..fitting.fit import fit_policy
from ..fitting.risk_control import RISKS
from ..fitting.target import DEFAULT_TARGET, Target
from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..policies.running import hold_budget
from ..records.record import ExitRecord
from ..runs.run import Run
from ..runs.run_files import record_name, recorded_elsewhere
from ..utils.registry import lookup
from .calibration import expected_error
from .metrics import accuracy_interval, apply

LEVEL = 0.05  # of the test whether a certified risk is exceeded


def shift_table(
    records: Iterable[tuple[str, int, ExitRecord]], policies: Mapping[str, Policy], bins: int = 15
) -> pd.DataFrame:
    """Every policy on every record of corrupted images, one row each.

    Args:
        records: corruption, strength (0: none) and record.
        policies: name → fitted policy. The risk of a certified one (`certified_risk`) is tested.

    Returns:
        ``corruption``, ``strength``, ``policy``, ``images``, ``accuracy``, ``full_accuracy``, ``flops_fraction``,
        ``mean_exit``, ``confidence`` and ``ece`` (at the exits taken, at the policy's temperatures), ``too_early``
        (early-exit error) and ``disagreement`` (shares of images), ``epsilon`` (certified, or NaN), ``risk`` (which of
        the two is certified, or empty), ``p_value`` (of at least so many losses if the true risk were epsilon) and
        ``violated`` (p_value is at most `LEVEL`).

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> policy = dx.fit_policy(run.record("calibration"), flops=0.30)
        >>> shift_table([("none", 0, run.record("test"))], {"30 %": policy})["accuracy"].round(4).tolist()
        [0.9133]
    """
    rows = []
    for corruption, strength, record in records:
        for name, policy in policies.items():
            rows.append({"corruption": corruption, "strength": strength, "policy": name, **_row(record, policy, bins)})
    return pd.DataFrame(rows)


def _row(record: ExitRecord, policy: Policy, bins: int) -> dict[str, Any]:
    outcome = apply(policy, record)
    found, given = outcome.summary(), outcome.confidence
    kept = ("images", "accuracy", "full_accuracy", "flops_fraction", "mean_exit", "too_early")
    row = {key: found[key] for key in kept} | {
        "disagreement": found["changed"],
        "confidence": float(given.mean(dtype=np.float64)),
        "ece": expected_error(given, outcome.correct, bins),
    }
    return row | _certified(record, policy, outcome.exits)


def _certified(record: ExitRecord, policy: Policy, exits: Any) -> dict[str, Any]:
    risk, epsilon = certified_risk(policy)
    if not risk:
        return {"risk": "", "epsilon": np.nan, "p_value": np.nan, "violated": False}
    p_value = excess_p_value(int(RISKS[risk](record, exits).sum()), record.n_images, epsilon)
    return {"risk": risk, "epsilon": epsilon, "p_value": p_value, "violated": p_value <= LEVEL}


def certified_risk(policy: Policy) -> tuple[str, float]:
    """The risk that a policy's certificate bounds, and its ε; ("", NaN) without one.

    Nothing is certified where no threshold could be, nor of thresholds that follow the images (`hold_budget`).
    """
    target, certificate = policy.fitted.get("target", {}), policy.fitted.get("certificate", {})
    if policy.base is not policy or not certificate.get("certified"):
        return "", math.nan
    return target["risk"], target["epsilon"]


def excess_p_value(losses: int, images: int, epsilon: float) -> float:
    """p-value of "the risk is at most ε": the binomial tail of at least so many losses among so many images.

    Example:
        >>> round(excess_p_value(20, 1000, 0.01), 4)
        0.0033
    """
    from scipy.special import bdtrc

    return 1.0 if losses == 0 else float(bdtrc(losses - 1, images, epsilon))


# Transfer: what a model and its thresholds do on images of another place, and what fitting them again repairs.
#
# In: calibration and test records of one model at home, of images like those it was trained on, and away: of another
# shop, camera or hospital. Out: what every exit loses away, and for each target what thresholds reached on the images
# that they were fitted on and what they do on test, at home, away, and away after they were fitted again there. No
# torch.

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

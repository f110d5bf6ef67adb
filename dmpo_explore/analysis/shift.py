"""Distribution shift: fitted policies on corrupted images.

In: policies fitted on calibration or val, and records of corrupted images (`torch_corruptions` makes them). Out: a
table: accuracy, realised FLOPs, calibration and whether a certified risk is exceeded, by corruption and strength. No
torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..fitting.risk_control import RISKS
from ..policies.base import Policy
from ..records.record import ExitRecord
from .calibration import expected_error
from .outcome import apply

LEVEL = 0.05  # of the test whether a certified risk is exceeded


def shift_table(
    records: Iterable[tuple[str, int, ExitRecord]], policies: Mapping[str, Policy], bins: int = 15
) -> pd.DataFrame:
    """Every policy on every record of corrupted images, one row each.

    Args:
        records: corruption, strength (0: none) and record, as `record_corrupted` yields them.
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

    Example:
        >>> import dmpo_explore as dx
        >>> calibration = dx.load_run("fashion").record("calibration")
        >>> policy = dx.fit_policy(calibration, risk="too_early", epsilon=0.01)
        >>> certified_risk(policy), certified_risk(dx.policies.hold_budget(policy, calibration))
        (('too_early', 0.01), ('', nan))
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

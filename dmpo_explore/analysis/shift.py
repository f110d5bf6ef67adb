"""What becomes of a fitted policy where the images are no longer those it was fitted on.

In: policies fitted on val and records of spoilt images (`corruption` makes them). Out: a table: accuracy, realised
compute, calibration and whether a guarantee is broken, by corruption and strength. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..fitting.risk_control import RISKS
from ..fitting.temperature import tempered_record
from ..policies.base import Policy
from ..records.record import ExitRecord
from .calibration import expected_error
from .metrics import summarise

LEVEL = 0.05  # of the test whether a promised risk is exceeded


def drift_table(
    records: Iterable[tuple[str, int, ExitRecord]], policies: Mapping[str, Policy], bins: int = 15
) -> pd.DataFrame:
    """One row per record and policy.

    Args:
        records: corruption, strength (0: none) and record, as `corruption.record_corrupted` yields them.
        policies: name → fitted on val. One fitted with ``risk`` brings its promise along.

    Returns:
        ``corruption``, ``strength``, ``policy``, ``images``, ``accuracy``, ``full_accuracy``, ``flops_fraction``,
        ``mean_exit``, ``confidence`` and ``ece`` (of the answers given, at the policy's temperatures), ``too_early``,
        ``disagreement`` (shares of images), ``epsilon`` (promised, or NaN), ``risk`` (which of the two was promised, or
        empty), ``p_value`` (chance of so many losses if the promised risk were kept to the brim) and ``violated``
        (that chance is at most `LEVEL`).
    """
    rows = []
    for corruption, strength, record in records:
        for name, policy in policies.items():
            rows.append({"corruption": corruption, "strength": strength, "policy": name, **_row(record, policy, bins)})
    return pd.DataFrame(rows)


def _row(record: ExitRecord, policy: Policy, bins: int) -> dict[str, Any]:
    exits, images = policy.exits(record), np.arange(record.n_images)
    found = summarise(record, exits)
    confidence = tempered_record(record, policy.temperatures).confidence if policy.temperatures else record.confidence
    given, right = confidence[images, exits], record.correct[images, exits]
    kept = ("images", "accuracy", "full_accuracy", "flops_fraction", "mean_exit", "too_early")
    row = {key: found[key] for key in kept} | {
        "disagreement": found["changed"],
        "confidence": float(given.mean(dtype=np.float64)),
        "ece": expected_error(given, right, bins),
    }
    return row | _promise(record, policy, exits)


def _promise(record: ExitRecord, policy: Policy, exits: Any) -> dict[str, Any]:
    target = policy.fitted.get("target", {})
    risk, epsilon = target.get("risk", ""), target.get("epsilon", np.nan)
    if not risk:
        return {"risk": "", "epsilon": np.nan, "p_value": np.nan, "violated": False}
    p_value = excess_p_value(int(RISKS[risk](record, exits).sum()), record.n_images, epsilon)
    return {"risk": risk, "epsilon": epsilon, "p_value": p_value, "violated": p_value <= LEVEL}


def excess_p_value(losses: int, images: int, epsilon: float) -> float:
    """Chance of at least so many losses among so many images if each has the chance ε (binomial tail)."""
    from scipy.special import bdtrc

    return 1.0 if losses == 0 else float(bdtrc(losses - 1, images, epsilon))

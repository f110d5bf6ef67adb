"""Temperature scaling per exit (Guo et al. 2017): logits of a record in, temperatures and a tempered record out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..policies.base import Policy
from ..records.record import MAKE_LOGITS, ExitRecord
from ..records.validation import check_logits
from ..utils.typing import Array

RANGE = (0.02, 50.0)  # of temperatures


def fit_temperatures(record: ExitRecord) -> tuple[float, ...]:
    """K temperatures in `RANGE`, each with the least mean negative log-likelihood on ``record`` (of calibration).

    The likelihood is concave in 1/T, so there is one optimum. It is the root of the slope, found to six digits.

    Raises:
        ValueError: a record without images or logits, or with NaN or infinite ones.

    Example:
        >>> import dmpo_explore as dx
        >>> fit_temperatures(dx.load_run("fashion").record("calibration"))[:2]
        (1.12772, 1.13504)
    """
    logits = checked_logits(record)
    if not record.n_images:
        raise ValueError("temperatures cannot be fitted on a record without images; choose images of it")
    return tuple(_temperature(logits[:, k].astype(np.float64), record.labels) for k in range(record.n_exits))


def _temperature(logits: Array, labels: Array) -> float:
    from scipy.optimize import brentq  # half a second, of pages that fit nothing

    z = logits - logits.max(axis=1, keepdims=True)
    own = float(z[np.arange(len(z)), labels].mean())

    def excess(log_t: float) -> float:  # slope of the mean log-likelihood in 1/T
        p = np.exp(z * np.exp(-log_t))
        return own - float(((p * z).sum(axis=1) / p.sum(axis=1)).mean())

    low, high = np.log(RANGE)
    if excess(low) >= 0:  # correct throughout: the sharper, the better
        return RANGE[0]
    if excess(high) < 0:
        return RANGE[1]
    return float(f"{np.exp(brentq(excess, low, high, xtol=1e-12)):.6g}")


def tempered_record(record: ExitRecord, temperatures: Sequence[float]) -> ExitRecord:
    """The record with its scores at K temperatures; predictions and logits stay the model's own.

    Policies with these temperatures read its scores as they are, and so do policies without any.

    Raises:
        ValueError: as `fit_temperatures`; another number of temperatures, or one that is not positive.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("val")
        >>> warm = tempered_record(record, [2.0] * record.n_exits)
        >>> bool(warm.confidence.mean() < record.confidence.mean())
        True
    """
    checked_logits(record)
    return record.tempered(temperatures)


def scored_record(record: ExitRecord, policy: Policy) -> ExitRecord:
    """The record with the scores that a policy reads: at its temperatures, where it has some.

    A record without logits stays as it is for a policy that reads predictions alone, which no temperature changes.

    Raises:
        ValueError: as `tempered_record`.
    """
    if policy.temperatures in ((), record.temperatures) or (
        record.logits is None and {*policy.reads} <= {"prediction"}
    ):
        return record
    return tempered_record(record, policy.temperatures)


def checked_logits(record: ExitRecord) -> Array:
    if record.logits is None:
        raise ValueError(f"{record.described} has no logits, which temperatures need; {MAKE_LOGITS}")
    check_logits(record.logits, record.described)
    return record.logits

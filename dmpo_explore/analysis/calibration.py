"""Is an exit as sure as it is right? Temperatures fitted on val; errors and tables per exit.

In: an `ExitRecord`, with logits wherever a temperature or whole probabilities are asked for. Out: K temperatures,
numbers (K,), tables. One temperature per exit by the negative log-likelihood, and the expected calibration error, are
those of Guo et al. (2017); the adaptive one, with equally many images in every bin, is Nguyen and O'Connor's (2015);
the Brier score is the multi-class sum of squares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..policies.scores import SCORES, scores, tempered
from ..records.record import ExitRecord
from ..records.validation import logits_problems

Array = npt.NDArray[Any]
RANGE = (0.02, 50.0)  # of temperatures


def fit_temperatures(record: ExitRecord) -> tuple[float, ...]:
    """K temperatures, each the one with the least mean negative log-likelihood on ``record`` (of val), in `RANGE`.

    The likelihood is concave in 1/T, so there is one optimum; it is found to six digits by bisection of its slope.

    Raises:
        ValueError: a record without logits, or with NaN or infinite ones.
    """
    logits = _logits(record)
    return tuple(_temperature(logits[:, k].astype(np.float64), record.labels) for k in range(record.n_exits))


def _temperature(logits: Array, labels: Array) -> float:
    z = logits - logits.max(axis=1, keepdims=True)
    own = float(z[np.arange(len(z)), labels].mean())

    def excess(log_t: float) -> float:  # slope of the mean log-likelihood in 1/T
        p = np.exp(z * np.exp(-log_t))
        return own - float(((p * z).sum(axis=1) / p.sum(axis=1)).mean())

    low, high = np.log(RANGE)
    if excess(low) >= 0:  # right throughout: the sharper, the better
        return RANGE[0]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    return float(f"{np.exp(high):.6g}")


def tempered_record(record: ExitRecord, temperatures: Sequence[float]) -> ExitRecord:
    """The record with confidence, entropy and margin at K temperatures; predictions stay, logits are left out.

    Raises:
        ValueError: as `fit_temperatures`; another number of temperatures, or one that is not positive.
    """
    if len(temperatures) != record.n_exits:
        raise ValueError(f"{len(temperatures)} temperatures for {record.n_exits} exits")
    logits = _logits(record)
    seen = [scores(tempered(logits[:, k], t)) for k, t in enumerate(temperatures)]
    changed: dict[str, Any] = {
        name: np.stack([one[name] for one in seen], axis=1) for name in SCORES if name != "prediction"
    }
    return dataclasses.replace(record, **changed, logits=None)


def calibration_error(record: ExitRecord, bins: int = 15) -> npt.NDArray[np.float64]:
    """(K,) expected calibration error: mean |confidence − accuracy| over equally wide bins of confidence."""
    columns = range(record.n_exits)
    return np.array([expected_error(record.confidence[:, k], record.correct[:, k], bins) for k in columns])


def adaptive_calibration_error(record: ExitRecord, bins: int = 15) -> npt.NDArray[np.float64]:
    """(K,) the same over bins that hold equally many images, as nearly as can be; fewer bins than images."""
    _check(bins)
    errors = []
    for k in range(record.n_exits):
        which = np.empty(record.images, np.int64)
        which[np.argsort(record.confidence[:, k], kind="stable")] = np.arange(record.images) * bins // record.images
        errors.append(_gap(record.confidence[:, k], record.correct[:, k], which, bins))
    return np.array(errors)


def expected_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of single answers: (B,) confidences, (B,) whether right. See `calibration_error`."""
    confidence = np.asarray(confidence)
    return _gap(confidence, np.asarray(correct), _wide_bins(confidence, bins), bins)


def brier_score(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(K,) mean Σ_c (p_c − [c = label])², from 0 to 2; raises ValueError without logits."""
    errors = probabilities(record, temperatures)
    errors[np.arange(record.images), :, record.labels] -= 1
    return np.asarray((errors**2).sum(axis=2).mean(axis=0))


def negative_log_likelihood(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(K,) mean −ln p_label, nats; raises ValueError without logits."""
    own = probabilities(record, temperatures)[np.arange(record.images), :, record.labels]
    return np.asarray(-np.log(np.maximum(own, 1e-300)).mean(axis=0))


def probabilities(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(B, K, C) softmax of the record's logits at K temperatures (1 if none); raises ValueError without logits."""
    z = _logits(record) / np.asarray(temperatures or [1.0] * record.n_exits)[:, None]
    p = np.exp(z - z.max(axis=2, keepdims=True))
    return np.asarray(p / p.sum(axis=2, keepdims=True))


def reliability_table(record: ExitRecord, bins: int = 15) -> pd.DataFrame:
    """How right each exit is where it is how sure.

    Returns:
        A row per exit and bin that holds images: ``exit`` (counted from 1), ``low``, ``high`` (edges of the bin),
        ``images``, ``confidence`` and ``accuracy`` (means in the bin).
    """
    which, rows = _wide_bins(record.confidence, bins), []
    for k in range(record.n_exits):
        images = np.bincount(which[:, k], minlength=bins)
        confidence = np.bincount(which[:, k], weights=record.confidence[:, k], minlength=bins)
        right = np.bincount(which[:, k], weights=record.correct[:, k], minlength=bins)
        for b in np.flatnonzero(images):
            means = confidence[b] / images[b], right[b] / images[b]
            rows.append((k + 1, b / bins, (b + 1) / bins, images[b], *means))
    return pd.DataFrame(rows, columns=["exit", "low", "high", "images", "confidence", "accuracy"])


def calibration_table(record: ExitRecord, temperatures: Sequence[float]) -> pd.DataFrame:
    """Every exit before and after its temperature, on a record that need not be the one they were fitted on.

    Returns:
        Two rows per exit: ``exit`` (counted from 1), ``when`` (before, after), ``temperature``, ``accuracy``,
        ``confidence`` (means), ``ece``, ``adaptive_ece``, ``brier``, ``nll``.
    """
    tables = []
    for when, values in (("before", [1.0] * record.n_exits), ("after", list(temperatures))):
        seen = record if when == "before" else tempered_record(record, values)
        columns = {
            "exit": np.arange(1, record.n_exits + 1),
            "when": when,
            "temperature": values,
            "accuracy": seen.correct.mean(axis=0),
            "confidence": seen.confidence.mean(axis=0, dtype=np.float64),
            "ece": calibration_error(seen),
            "adaptive_ece": adaptive_calibration_error(seen),
            "brier": brier_score(record, values),
            "nll": negative_log_likelihood(record, values),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _wide_bins(confidence: Array, bins: int) -> Array:
    _check(bins)
    return (confidence * bins).astype(np.int64).clip(0, bins - 1)


def _check(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")


def _gap(confidence: Array, correct: Array, which: Array, bins: int) -> float:
    excess = confidence.astype(np.float64) - correct
    return float(np.abs(np.bincount(which, weights=excess, minlength=bins)).sum() / len(confidence))


def _logits(record: ExitRecord) -> Array:
    where = f"this record of {record.meta.data} {record.meta.split}"
    if record.logits is None:
        raise ValueError(f"{where} has no logits, which temperatures need; record it again with logits")
    for problem in logits_problems(record.logits, where):
        raise problem
    return record.logits

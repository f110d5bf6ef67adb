"""Calibration of an exit: error of its confidence, reliability by bin, and failure prediction (EEFP).

Early-exit failure prediction (EEFP): how well a score separates the images that may exit at an exit from the others.
In: an `ExitRecord`. Out: a number per exit, and curves. EEFP is of "Failure Prediction Is a Better Performance
Proxy for Early-Exit Networks Than Calibration" (Kubaty et al. 2025, arXiv 2508.21495): calibration ignores the order of
the images, so that a calibrated exit may still stop unsuitable ones. An image may exit at an exit that is correct, or
if no later exit is correct either; the gate of `policies.learned` learns this target. Ours: the area
under the ROC curve over all images, whether a policy would let them reach the exit or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..fitting.temperature import checked_logits, tempered_record
from ..policies.learned import gate_target
from ..records.record import ExitRecord, checked_temperatures
from ..records.scores import SCORES
from ..records.validation import SLACK
from ..utils.registry import unknown
from ..utils.typing import Array


def failure_prediction(record: ExitRecord, score: str = "confidence") -> npt.NDArray[np.float64]:
    """(K−1,) EEFP of every exit but the last: area under the ROC curve of a score for "may exit here".

    1: some threshold stops exactly the images that may exit; ½: the score does not separate them; NaN where all images
    may exit, or none.

    Args:
        score: one of `SCORES` that ranks images; of those that are better low, lower values count as higher ones.

    Raises:
        ValueError: another score, or one that the record cannot give.

    Example:
        >>> import dmpo_explore as dx
        >>> found = failure_prediction(dx.load_run("demo").record("test"))
        >>> found.shape, bool((found > 0.8).all())
        ((5,), True)
    """
    from sklearn.metrics import roc_auc_score

    target, values = gate_target(record), _rising(record, score)
    exits = zip(target.T, values.T, strict=False)  # the last exit has no target
    return np.array([roc_auc_score(may, value) if may.any() and not may.all() else np.nan for may, value in exits])


def _rising(record: ExitRecord, score: str) -> npt.NDArray[np.float64]:
    """(B, K) scores, the higher the surer."""
    if score not in ranking_scores():
        raise ValueError(unknown("score that ranks images", score, ranking_scores()))
    values = np.asarray(record.score(score), np.float64)
    return -values if SCORES[score].better == "low" else values


def ranking_scores(record: ExitRecord | None = None) -> list[str]:
    """Names of `SCORES` that rank images; only those that ``record`` can give."""
    found = [name for name, score in SCORES.items() if score.better]
    return found if record is None else [name for name in found if not record.unavailable_reason(name)]


# Calibration per exit: expected calibration error, Brier score, likelihood, tables before and after temperatures.
#
# In: an `ExitRecord`, with logits where temperatures or whole probabilities are needed. Out: numbers (K,), tables. The
# expected calibration error and one temperature per exit are those of Guo et al. (2017). The adaptive error is Nguyen
# and O'Connor's (2015). The Brier score is the multi-class sum of squares. Early-exit failure prediction is a column
# beside them (`failure_prediction`): calibration does not measure whether the images stop at a suitable exit.


def calibration_error(record: ExitRecord, bins: int = 15) -> npt.NDArray[np.float64]:
    """(K,) expected calibration error: mean |confidence − accuracy| over equally wide bins of confidence.

    Example:
        >>> import dmpo_explore as dx
        >>> calibration_error(dx.load_run("demo").record("test")).shape
        (6,)
    """
    columns = range(record.n_exits)
    return np.array([expected_error(record.confidence[:, k], record.correct[:, k], bins) for k in columns])


def adaptive_calibration_error(record: ExitRecord, bins: int = 15) -> npt.NDArray[np.float64]:
    """(K,) adaptive calibration error: `calibration_error` over bins of equally many images, or nearly so.

    Example:
        >>> import dmpo_explore as dx
        >>> bool((adaptive_calibration_error(dx.load_run("fashion").record("test")) < 0.05).all())
        True
    """
    _check(bins)
    errors = []
    for k in range(record.n_exits):
        which = np.empty(record.n_images, np.int64)
        which[np.argsort(record.confidence[:, k], kind="stable")] = np.arange(record.n_images) * bins // record.n_images
        errors.append(_gap(record.confidence[:, k], record.correct[:, k], which, bins))
    return np.array(errors)


def expected_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of (B,) confidences and (B,) bool, whether each is correct. See `calibration_error`.

    Raises:
        ValueError: other shapes, no images, or confidences that are not from 0 to 1.

    Example:
        >>> round(expected_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 2)
        0.1
    """
    confidence, correct = np.asarray(confidence), np.asarray(correct)
    if confidence.ndim != 1 or not confidence.size or confidence.shape != correct.shape or correct.dtype != bool:
        raise ValueError(
            f"confidence {confidence.shape} and correct {correct.shape} of type {correct.dtype} must be (B,) numbers "
            "and (B,) bool, of at least one image"
        )
    if not (confidence.min() >= -SLACK and confidence.max() <= 1 + SLACK):
        raise ValueError(
            f"confidences from {confidence.min():g} to {confidence.max():g} must be from 0 to 1; 1 is 100 %"
        )
    return _gap(confidence, correct, _wide_bins(confidence, bins), bins)


def brier_score(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(K,) mean Σ_c (p_c − [c = label])², from 0 to 2; raises ValueError as `probabilities`.

    Example:
        >>> import dmpo_explore as dx
        >>> bool((brier_score(dx.load_run("fashion").record("calibration")) < 0.2).all())
        True
    """
    errors = probabilities(record, temperatures)
    errors[np.arange(record.n_images), :, record.labels] -= 1
    return np.asarray((errors**2).sum(axis=2).mean(axis=0))


def negative_log_likelihood(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(K,) mean −ln p_label, nats; raises ValueError as `probabilities`.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.fitting import fit_temperatures
        >>> val = dx.load_run("demo").record("val")
        >>> fitted = negative_log_likelihood(val, fit_temperatures(val))
        >>> bool((fitted < negative_log_likelihood(val)).all())
        True
    """
    from scipy.special import log_softmax  # a fifth of a second of every page's start

    logs = log_softmax(_divided(record, temperatures), axis=2)
    return np.asarray(-logs[np.arange(record.n_images), :, record.labels].mean(axis=0))


def probabilities(record: ExitRecord, temperatures: Sequence[float] | None = None) -> npt.NDArray[np.float64]:
    """(B, K, C) softmax of the record's logits at K temperatures: by default the record's own, or 1.

    Raises:
        ValueError: no logits, another number of temperatures, or one that is not positive.

    Example:
        >>> import dmpo_explore as dx
        >>> found = probabilities(dx.load_run("fashion").record("calibration").subset(range(4)))
        >>> found.shape, bool(np.allclose(found.sum(axis=2), 1))
        ((4, 6, 10), True)
    """
    from scipy.special import softmax

    return np.asarray(softmax(_divided(record, temperatures), axis=2))


def _divided(record: ExitRecord, temperatures: Sequence[float] | None) -> npt.NDArray[np.float64]:
    """(B, K, C) logits over temperatures."""
    given = record.temperatures or np.ones(record.n_exits) if temperatures is None else temperatures
    divisors = np.array(checked_temperatures(given, record.n_exits))
    return np.asarray(checked_logits(record) / divisors[:, None])


def reliability_table(record: ExitRecord, bins: int = 15, least: int = 1) -> pd.DataFrame:
    """Reliability table: accuracy over confidence, per exit and bin.

    Args:
        bins: bins of equal width. least: a bin with fewer images is joined with the next ones, the last with the one
            before it.

    Returns:
        A row per exit and bin that holds images: ``exit`` (counted from 1), ``low``, ``high`` (edges of the bin),
        ``images``, ``confidence`` and ``accuracy`` (means in the bin).

    Example:
        >>> import dmpo_explore as dx
        >>> table = reliability_table(dx.load_run("fashion").record("val"), bins=10)
        >>> int(table[table["exit"] == 1]["images"].sum())
        5000
        >>> bool((reliability_table(dx.load_run("fashion").record("val"), least=20)["images"] >= 20).all())
        True
    """
    which, rows = _wide_bins(record.confidence, bins), []
    for k in range(record.n_exits):
        images = np.bincount(which[:, k], minlength=bins)
        confidence = np.bincount(which[:, k], weights=record.confidence[:, k], minlength=bins)
        right = np.bincount(which[:, k], weights=record.correct[:, k], minlength=bins)
        for group in _joined(images, least):
            n = images[group].sum()
            means = confidence[group].sum() / n, right[group].sum() / n
            rows.append((k + 1, group[0] / bins, (group[-1] + 1) / bins, n, *means))
    return pd.DataFrame(rows, columns=["exit", "low", "high", "images", "confidence", "accuracy"])


def calibration_table(record: ExitRecord, temperatures: Sequence[float]) -> pd.DataFrame:
    """Calibration of every exit before and after its temperature, on any record with logits.

    Returns:
        Two rows per exit: ``exit`` (counted from 1), ``when`` (before, after), ``temperature``, ``accuracy``,
        ``confidence`` (means), ``ece``, ``adaptive_ece``, ``brier``, ``nll``, ``eefp`` (`failure_prediction`; NaN at
        the last exit).

    Example:
        >>> import dmpo_explore as dx
        >>> val = dx.load_run("demo").record("val")
        >>> calibration_table(val, [2.0] * val.n_exits)["when"].value_counts().to_dict()
        {'before': 6, 'after': 6}
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
            "eefp": [*failure_prediction(seen), np.nan],
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def failure_prediction_table(record: ExitRecord) -> pd.DataFrame:
    """EEFP beside the expected calibration error: a row per exit but the last.

    Returns:
        ``exit`` (counted from 1), ``accuracy``, ``may_exit`` (share of the images that may exit there), ``eefp`` of the
        confidence, ``eefp_NAME`` of every other score that ranks images and that the record can give (``eefp_entropy``,
        ``eefp_margin``), and ``ece``.

    Example:
        >>> import dmpo_explore as dx
        >>> table = failure_prediction_table(dx.load_run("demo").record("test"))
        >>> table["exit"].tolist(), bool((table["may_exit"] >= table["accuracy"]).all())
        ([1, 2, 3, 4, 5], True)
    """
    early = record.n_exits - 1
    others = [name for name in ranking_scores(record) if name != "confidence"]
    return pd.DataFrame(
        {
            "exit": np.arange(1, early + 1),
            "accuracy": record.correct[:, :early].mean(axis=0),
            "may_exit": gate_target(record).mean(axis=0),
            "eefp": failure_prediction(record),
            **{f"eefp_{name}": failure_prediction(record, name) for name in others},
            "ece": calibration_error(record)[:early],
        }
    )


def _joined(images: Array, least: int) -> list[list[int]]:
    """Bins that hold images, neighbours together until they hold at least ``least``."""
    groups: list[list[int]] = []
    for b in np.flatnonzero(images):
        if groups and images[groups[-1]].sum() < least:
            groups[-1].append(int(b))
        else:
            groups.append([int(b)])
    if len(groups) > 1 and images[groups[-1]].sum() < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _wide_bins(confidence: Array, bins: int) -> Array:
    _check(bins)
    return (confidence * bins).astype(np.int64).clip(0, bins - 1)


def _check(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")


def _gap(confidence: Array, correct: Array, which: Array, bins: int) -> float:
    excess = confidence.astype(np.float64) - correct
    return float(np.abs(np.bincount(which, weights=excess, minlength=bins)).sum() / len(confidence))

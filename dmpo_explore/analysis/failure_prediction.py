"""Early-exit failure prediction (EEFP): how well a score separates the images that may exit at an exit from the others.

In: an `ExitRecord`. Out: a number per exit, and curves. EEFP is of "Failure Prediction Is a Better Performance
Proxy for Early-Exit Networks Than Calibration" (Kubaty et al. 2025, arXiv 2508.21495): calibration ignores the order of
the images, so that a calibrated exit may still stop unsuitable ones. An image may exit at an exit that is correct, or
if no later exit is correct either; the gate of `policies.learned` learns this target. Ours: the area
under the ROC curve over all images, whether a policy would let them reach the exit or not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..policies.learned import gate_target
from ..records.record import ExitRecord
from ..records.scores import SCORES
from ..utils.registry import unknown

POINTS = 200  # of a curve, at most


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


def failure_prediction_curves(record: ExitRecord, score: str = "confidence") -> pd.DataFrame:
    """ROC curves of "may exit here", one per exit.

    Returns:
        Rows of ``exit`` (counted from 1), ``stopped`` (share of the images that may not exit and do, the lower the
        better) and ``exits`` (share of those that may exit and do), from threshold to threshold. No rows of an exit
        where every image may exit, or none.

    Example:
        >>> import dmpo_explore as dx
        >>> curves = failure_prediction_curves(dx.load_run("demo").record("test"))
        >>> first = curves[curves["exit"] == 1]
        >>> first[["stopped", "exits"]].iloc[-1].tolist()
        [1.0, 1.0]
    """
    from sklearn.metrics import roc_curve

    target, values, parts = gate_target(record), _rising(record, score), []
    for k in np.flatnonzero(target.any(axis=0) & ~target.all(axis=0)):
        wrong, right, _ = roc_curve(target[:, k], values[:, k], drop_intermediate=False)
        rows = np.unique(np.linspace(0, len(wrong) - 1, POINTS).round().astype(int))
        parts.append(pd.DataFrame({"exit": k + 1, "stopped": wrong[rows], "exits": right[rows]}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["exit", "stopped", "exits"])


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

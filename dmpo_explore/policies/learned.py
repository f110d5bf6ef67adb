"""A learned judge beside every exit: is there anything to gain by going on?

In: one exit's scores and those of the exit before, numpy or torch. Out: features, and their weights learned on a
held-out record. After JEI-DNN (Regol et al. 2024): a logistic regression per exit on detached scores with a cost-aware
target. Ours: the target is 1 where no later exit is right or this one is already (with right and wrong as loss, the
price of compute cancels out of JEI-DNN's target as long as the way to the last exit costs less than an error), and the
features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from ..records.record import ExitRecord

FEATURES = ("log-odds", "entropy", "margin", "repeats", "log-odds before", "margin before")
CLIP = 1e-3  # of confidence before its log-odds, so that float noise near 1 stays small
STRENGTH = 1.0  # inverse of the L2 penalty on standardised features


def log_odds(confidence: Any) -> Any:
    """ln(c / (1 − c)) of a confidence kept `CLIP` away from 0 and 1; shape, type and library as given."""
    xp = array_namespace(confidence)
    c = xp.clip(confidence, CLIP, 1 - CLIP)
    return xp.log(c / (1 - c))


def judge(weights: tuple[float, ...], features: tuple[Any, ...]) -> Any:
    """Logistic regression: features, arrays (b,), and one weight each with the intercept behind → chance (b,)."""
    xp = array_namespace(features[0])
    total = features[0] * weights[0]
    for weight, feature in zip(weights[1:-1], features[1:], strict=True):
        total = total + feature * weight
    return 1 / (1 + xp.exp(-(total + weights[-1])))


def learn_gate(features: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, ...]:
    """Weights and intercept of one exit's logistic regression.

    Args:
        features: (B, F). target: (B,) bool, whether leaving loses nothing.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = np.asarray(features, np.float64), np.asarray(target, bool)
    if y.all() or not y.any():
        return (*([0.0] * x.shape[1]), 20.0 if y.all() else -20.0)  # nothing to tell apart
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread < 1e-9] = 1.0
    fitted = LogisticRegression(C=STRENGTH, max_iter=1000).fit((x - mean) / spread, y)
    slopes = fitted.coef_[0] / spread
    return tuple(float(f"{w:.6g}") for w in (*slopes, fitted.intercept_[0] - slopes @ mean))


def gate_target(record: ExitRecord) -> npt.NDArray[np.bool_]:
    """(B, K−1): right here, or not right at any later exit either."""
    right = record.correct
    later = np.maximum.accumulate(right[:, ::-1], axis=1)[:, ::-1][:, 1:]  # (B, K−1): some later exit is right
    return np.asarray(right[:, :-1] | ~later)

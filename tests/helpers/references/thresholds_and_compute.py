"""Incorrect answers to the exercises of 05_thresholds_and_compute, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom

import dmpo_explore as dx

DEMO = dx.load_run("fashion")
VAL, TEST = DEMO.record("calibration"), DEMO.record("test")
EXITS = dx.fit_policy(VAL, flops=0.3).exits(TEST)


def patient_in_all(prediction: Any, patience: int) -> Any:
    """Counts all repetitions so far; a different prediction does not start the count again."""
    same = np.pad(prediction[:, 1:] == prediction[:, :-1], ((0, 0), (1, 0)))
    reached = same.cumsum(axis=1) >= patience
    reached[:, -1] = True
    return reached.argmax(axis=1)


def exits_at(confidence: Any, threshold: float) -> Any:
    """(B,) exits."""
    reached = confidence >= threshold
    reached[:, -1] = True
    return reached.argmax(axis=1)


def highest(confidence: Any, correct: Any, share: Any, budget: float) -> float:
    """The highest of 500 thresholds within the budget, whatever its accuracy."""
    thresholds = np.quantile(confidence, np.linspace(0, 1, 501))
    return float(max(t for t in thresholds if share[exits_at(confidence, t)].mean() <= budget))


def every_pass(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """Does not stop at the first failure."""
    return int((binom.cdf(errors, n, epsilon) <= delta).sum())


INCORRECT = {1: patient_in_all, 2: every_pass, 3: highest}
SPACE = {"calibration": VAL, "test": TEST, "rule": exits_at}  # names of the notebook


def BUILD_INCORRECT(look: Any, n_images: int, n_exits: int, threshold: float) -> Any:
    """Computes every exit for all images."""
    everything = np.stack([look(k, np.arange(n_images)) for k in range(n_exits)], axis=1)
    return exits_at(everything, threshold)


def numbers() -> dict[str, float]:
    seen = dx.summarise(TEST, EXITS)
    return {
        "accuracy_at_30_percent": seen["accuracy"],
        "compute_used": seen["flops_fraction"],
        "overthinking": seen["overthought"],
        "some_exit_is_correct": float(TEST.correct.any(axis=1).mean()),
        "calibration_error_exit_1": float(dx.analysis.calibration_error(TEST)[0]),
        "calibration_error_exit_1_tempered": float(
            dx.analysis.calibration_error(dx.fitting.tempered_record(TEST, dx.fitting.fit_temperatures(VAL)))[0]
        ),
    }

"""Correct and incorrect answers to the exercises of 05_thresholds_and_compute, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betainc

import dmpo_explore as dx

DEMO = dx.load_run("demo")
VAL, TEST = DEMO.record("calibration"), DEMO.record("test")
EXITS = dx.fit_policy(VAL, flops=0.3).exits(TEST)


def patient(prediction: Any, patience: int) -> Any:
    """Image by image, exit by exit."""
    exits = []
    for row in prediction.tolist():
        ends = [k for k in range(patience, len(row)) if len(set(row[k - patience : k + 1])) == 1]
        exits.append(min([*ends, len(row) - 1]))
    return np.array(exits)


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


def fitted(confidence: Any, correct: Any, share: Any, budget: float, most_accurate: bool = True) -> float:
    """The most accurate of 500 thresholds within the budget, or the highest of them."""
    found = []
    for threshold in np.quantile(confidence, np.linspace(0, 1, 501)):
        exits = exits_at(confidence, threshold)
        if share[exits].mean() <= budget:
            accuracy = correct[np.arange(len(exits)), exits].mean()
            found.append((accuracy if most_accurate else threshold, threshold))
    return float(max(found)[1])


def sequence(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """By the largest number of errors that passes, from the regularised incomplete beta function."""
    most = max((c for c in range(n) if betainc(n - c, c + 1, 1 - epsilon) <= delta), default=-1)
    return next((place for place, count in enumerate(errors) if count > most), len(errors))


def every_pass(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """Does not stop at the first failure."""
    return sum(betainc(n - c, c + 1, 1 - epsilon) <= delta for c in errors)


ANSWERS = {1: patient, 2: sequence, 3: fitted}
INCORRECT = {
    1: patient_in_all,
    2: every_pass,
    3: lambda *given: fitted(*given, most_accurate=False),
}
SPACE = {"calibration": VAL, "test": TEST, "rule": exits_at}  # names of the notebook


def BUILD(look: Any, n_images: int, n_exits: int, threshold: float) -> Any:
    """With a mask of the images that are left."""
    exits, left = np.zeros(n_images, int), np.ones(n_images, bool)
    for k in range(n_exits - 1):
        left[left] = look(k, np.flatnonzero(left)) < threshold
        exits[left] = k + 1
    return exits


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

"""Correct and incorrect answers to the exercises of 05_thresholds_and_compute, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np

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


ANSWERS = {1: patient, 2: lambda correct: correct.argmax(axis=1), 3: fitted}
INCORRECT = {
    1: patient_in_all,
    2: lambda correct: np.where(correct.any(axis=1), correct.argmax(axis=1), correct.shape[1] - 1),
    3: lambda *given: fitted(*given, most_accurate=False),
}
SPACE = {"calibration": VAL, "test": TEST, "rule": exits_at}  # names of the notebook
BUILD = exits_at


def BUILD_INCORRECT(confidence: Any, threshold: float) -> Any:
    """Images that reach no threshold stop at exit 1."""
    return (confidence >= threshold).argmax(axis=1)


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

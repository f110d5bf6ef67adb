"""Correct and incorrect answers to the exercises of 05_thresholds_and_compute, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np

import dmpo_explore as dx

DEMO = dx.load_run("demo")
VAL, TEST = DEMO.record("calibration"), DEMO.record("test")
EXITS = dx.fit_policy(VAL, flops=0.3).exits(TEST)


def first_confident(confidence: Any, threshold: float) -> int:
    """The first exit whose confidence reaches the threshold, else the last."""
    reached = np.flatnonzero(confidence[:-1] >= threshold)
    return int(reached[0]) if reached.size else len(confidence) - 1


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


ANSWERS = {1: first_confident, 2: lambda correct: correct.argmax(axis=1), 3: fitted}
INCORRECT = {
    1: lambda confidence, threshold: int(np.argmax(confidence)),
    2: lambda correct: np.where(correct.any(axis=1), correct.argmax(axis=1), correct.shape[1] - 1),
    3: lambda *given: fitted(*given, most_accurate=False),
}
SPACE = {"calibration": VAL, "test": TEST}  # names of the notebook


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

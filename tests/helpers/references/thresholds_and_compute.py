"""Correct and incorrect answers to the exercises of 05_thresholds_and_compute, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np

import dmpo_explore as dx

DEMO, NAIVE = dx.load_run("demo"), dx.load_run("demo-naive")
VAL, TEST = DEMO.record("calibration"), DEMO.record("test")
EXITS = dx.fit_policy(VAL, flops=0.3).exits(TEST)
CAREFUL = dx.fit_policy(NAIVE.record("calibration"), "entropy", accuracy_drop=0.005)


def first_confident(confidence: Any, threshold: float) -> int:
    """The first exit whose confidence reaches the threshold, else the last."""
    reached = np.flatnonzero(confidence[:-1] >= threshold)
    return int(reached[0]) if reached.size else len(confidence) - 1


ANSWERS = {
    1: float(dx.apply(CAREFUL, NAIVE.record("test")).flops_fraction.mean()),
    2: float((TEST.correct[:, 0] & (EXITS > 0)).mean()),
    3: first_confident,
}
SPACE = {"naive": NAIVE, "calibration": VAL, "test": TEST}  # names of the notebook
INCORRECT = {
    1: float(dx.apply(CAREFUL, NAIVE.record("calibration")).flops_fraction.mean()) + 0.01,
    2: float((EXITS > 0).mean()),
    3: lambda confidence, threshold: int(np.argmax(confidence)),
}


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

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


def oracle(correct: Any, share: Any, budget: float) -> Any:
    """Exit by exit: as many of the images that it is the first to have correct as the budget allows."""
    exits, left = np.zeros(len(correct), int), (budget - share[0]) * len(correct)
    for k in range(1, len(share)):
        rows = np.flatnonzero(correct[:, k] & ~correct[:, :k].any(axis=1))[: int(left / (share[k] - share[0]))]
        exits[rows] = k
        left -= len(rows) * (share[k] - share[0])
    return exits


def wasteful(correct: Any, share: Any, budget: float) -> Any:
    """The first images that need more, whatever it is."""
    first = correct.argmax(axis=1)
    return np.where(np.cumsum(share[first] - share[0]) <= (budget - share[0]) * len(first), first, 0)


ANSWERS = {1: patient, 2: oracle, 3: fitted}
INCORRECT = {
    1: patient_in_all,
    2: wasteful,
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

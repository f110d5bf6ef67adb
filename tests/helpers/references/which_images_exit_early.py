"""Incorrect answers to the exercises of 08_which_images_exit_early, and its key numbers from the library."""

from __future__ import annotations

from typing import Any

import numpy as np

import dmpo_explore as dx

RUN = dx.load_run("fashion")
TEST = RUN.record("test")
OUTCOME = dx.apply(dx.fit_policy(RUN.record("calibration"), flops=0.30), TEST)
HOPELESS = (~TEST.correct).all(axis=1)


def gains_of_steps(confidence: Any, correct: Any, thresholds: Any) -> Any:
    """Threshold, gains of the images that move to another exit; of every step."""
    exits = []
    for threshold in thresholds:
        reached = confidence >= threshold
        reached[:, -1] = True
        exits.append(reached.argmax(axis=1)[:, None])
    for before, after, threshold in zip(exits, exits[1:], thresholds[1:], strict=False):
        hits = [np.take_along_axis(correct, found, axis=1)[before != after].astype(float) for found in (before, after)]
        yield threshold, hits[1] - hits[0]


def last_with_a_gain(confidence: Any, correct: Any, thresholds: Any) -> Any:
    """Without an interval."""
    found = [t for t, g in gains_of_steps(confidence, correct, thresholds) if len(g) and g.mean() > 0]
    return found[-1] if found else None


def masks(correct: Any, exits: Any) -> Any:
    """Early-exit errors and overthinking avoided."""
    here, last = correct[np.arange(len(exits)), exits], correct[:, -1]
    return ~here & last, here & ~last


INCORRECT = {
    1: lambda labels: labels.std(axis=1),  # reaches the AUC, but takes class numbers for amounts
    2: lambda prediction, exits: exits,
    3: last_with_a_gain,
}
SPACE = {"calibration": RUN.record("calibration"), "test": TEST, "outcome": OUTCOME}  # names of the notebook


def BUILD_INCORRECT(correct: Any, exits: Any) -> Any:
    """The two masks in the other order."""
    return masks(correct, exits)[::-1]


def numbers() -> dict[str, float]:
    shirts = TEST.labels == TEST.meta.class_names.index("Shirt")
    trousers = TEST.labels == TEST.meta.class_names.index("Trouser")
    early = OUTCOME.exits == 0
    return {
        "shirts_at_exit_1": float(early[shirts].mean()),
        "trousers_at_exit_1": float(early[trousers].mean()),
        "upper_clothes_and_dresses_among_the_late": float(np.isin(TEST.labels[~early], [0, 2, 3, 4, 6]).mean()),
        "early_exit_errors": int(OUTCOME.early_exit_error.sum()),
        "overthinking_avoided": int((OUTCOME.correct & ~TEST.correct[:, -1]).sum()),
        "no_exit_is_correct": int(HOPELESS.sum()),
    }

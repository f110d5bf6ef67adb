"""Exercises of 08_which_images_exit_early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dmpo_explore as dx

from . import exercise

BUDGET = 0.30


@exercise
def check_build(answer: Callable[[Any, Any], tuple[Any, Any]]) -> str:
    """It finds the images that `dx.Outcome` finds: 146 early-exit errors and 132 times overthinking avoided."""
    outcome = _outcome()
    everywhere = np.random.default_rng(0).integers(0, outcome.record.n_exits, outcome.record.n_images)
    for found in (outcome, dx.Outcome(outcome.record, everywhere)):
        errors, avoided = (np.asarray(mask) for mask in answer(found.record.correct, found.exits))
        if errors.shape != found.exits.shape or errors.dtype != bool or avoided.dtype != bool:
            return f"give two masks, bool, one value per image: not {errors.dtype} {errors.shape}"
        if not np.array_equal(errors, found.early_exit_error):
            return f"early-exit errors: {errors.sum()} found, {found.early_exit_error.sum()} there"
        if not np.array_equal(avoided, found.correct & ~found.record.correct[:, -1]):
            return f"overthinking avoided: {avoided.sum()} found; correct at its exit, incorrect at the last"
    return ""


@exercise
def check_1(answer: str) -> str:
    """It is easily taken for a shirt, and a shirt for it."""
    outcome = _outcome()
    names, shirt = outcome.record.meta.class_names, outcome.record.meta.class_names.index("Shirt")
    taken = outcome.record.labels[(outcome.prediction == shirt) & (outcome.record.labels != shirt)]
    expected = names[np.bincount(taken).argmax()]
    if answer not in names:
        return f"give a class: one of {', '.join(names)}"
    return (
        "" if answer == expected else "count the labels where the prediction at the exit is Shirt, and incorrectly so"
    )


@exercise
def check_2(answer: float) -> str:
    """More than half of the errors lie beyond every threshold: no exit is correct there."""
    outcome = _outcome()
    hopeless = (~outcome.record.correct).all(axis=1)
    share = hopeless.sum() / (~outcome.correct).sum()
    return "" if abs(float(answer) - share) < 2e-3 else "of the images incorrect at their exit: no exit is correct"


@exercise
def check_3(answer: Callable[[Any, float], Any]) -> str:
    """Those are the images of a live wall's slider: a step moves them to another exit."""
    record = _outcome().record
    for low, high in ((0.5, 0.7), (0.75, 0.76), (0.9, 0.9)):
        before, after = (dx.fit_policy(record, threshold=t).exits(record) for t in (low, high))
        found = np.sort(np.asarray(answer(low, high)))
        if not np.array_equal(found, np.flatnonzero(before != after)):
            return f"from {low} to {high}: you have {len(found)} images, {(before != after).sum()} change their exit"
    return ""


def _outcome() -> dx.Outcome:
    run = dx.load_run("demo")
    return dx.apply(dx.fit_policy(run.record("calibration"), flops=BUDGET), run.record("test"))

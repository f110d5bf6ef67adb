"""Exercises of 08_which_images_exit_early."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import dmpo_explore as dx

from . import exercise

BUDGET = 0.30


@exercise
def check_build(answer: Callable[[Any, Any], tuple[Any, Any]]) -> str:
    """It finds the images that `dx.Outcome` finds, at any exits."""
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
def check_1(answer: Callable[[Any], Any]) -> str:
    """The mixture of labels around an image goes together with its exit, even without the image's own label."""
    outcome, labels = _outcome(), _labels_nearby()
    score = _one_number_each(answer(labels.copy()), len(labels))
    renamed = np.random.default_rng(0).permutation(labels.max() + 1)[labels]
    if not np.allclose(score, _one_number_each(answer(renamed), len(labels))):
        return "with the classes in another order the score changes: labels are names, so count them"
    found = roc_auc_score(outcome.exits > 0, score)
    return "" if found >= 0.75 else f"an AUC of {found:.2f}: it must be high where the neighbours' labels are mixed"


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> str:
    """No policy could use it: it reads exits behind the image's own, and those are not computed."""
    outcome = _outcome()
    score = _one_number_each(answer(outcome.record.prediction.copy(), outcome.exits.copy()), len(outcome.exits))
    found = roc_auc_score(~outcome.correct, score)
    return "" if found >= 0.8 else f"an AUC of {found:.2f} for images that are incorrect at their exit"


@exercise
def check_3(answer: Callable[[Any, Any, Any], Any]) -> str:
    """From there on more images are sent deeper, and no gain is shown for them."""
    grids = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99), (0.3, 0.32, 0.34), (0.4, 0.75, 0.76, 0.77, 1.01), (0.9, 0.95, 0.99)
    for record in (dx.load_run("demo").record(split) for split in ("test", "calibration")):
        for grid in grids:
            found, due = answer(record.confidence.copy(), record.correct.copy(), grid), _last_that_pays(record, grid)
            if found != due:
                return f"with the thresholds {grid} on {record.meta.split} it is {due}, not {found}"
    return ""


def _last_that_pays(record: dx.ExitRecord, thresholds: tuple[float, ...]) -> float | None:
    """The upper threshold of the last step with a gain for the images that move; None if there is none."""
    found, last = [dx.apply(dx.fit_policy(record, threshold=t), record) for t in thresholds], None
    for before, after, threshold in zip(found, found[1:], thresholds[1:], strict=False):
        gain = (after.correct.astype(float) - before.correct)[after.exits != before.exits]
        if len(gain) > 1 and gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5:
            last = threshold
    return last


def _one_number_each(score: Any, n: int) -> Any:
    """The score as floats.

    Raises:
        ValueError: it is not one finite number per image.
    """
    values = np.asarray(score, float)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise ValueError(f"give {n:,} finite numbers, not {values.shape}")
    return values


@cache
def _labels_nearby(n: int = 10) -> Any:
    """Labels of the nearest test images by pixels (cosine), without the image itself: (B, n)."""
    run = dx.load_run("demo")
    images, labels = run.image_set("test"), run.record("test").labels
    flat = np.stack([images[i][..., 0].ravel() for i in range(len(labels))]).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    near = []
    for start in range(0, len(flat), 500):
        likeness = flat[start : start + 500] @ flat.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        near.append(np.argpartition(-likeness, n, axis=1)[:, :n])
    return labels[np.concatenate(near)]


def _outcome() -> dx.Outcome:
    run = dx.load_run("demo")
    return dx.apply(dx.fit_policy(run.record("calibration"), flops=BUDGET), run.record("test"))

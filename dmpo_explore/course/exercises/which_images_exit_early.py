"""Exercises of 08_which_images_exit_early."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import dmpo_explore as dx

from . import Lines, exercise, gives


@exercise
def check_build(answer: Callable[[Any, Any], tuple[Any, Any]]) -> Lines:
    """It finds the images that `dx.Outcome` finds, at any exits."""
    outcome = _outcome()
    everywhere = np.random.default_rng(0).integers(0, outcome.record.n_exits, outcome.record.n_images)
    for found in (outcome, dx.Outcome(outcome.record, everywhere)):
        given, last = (found.record.correct, found.exits), found.record.correct[:, -1]
        yield gives(lambda *g: answer(*g)[0], given, found.early_exit_error, "early-exit errors, a mask")
        avoided = "overthinking avoided, a mask: correct at its exit, incorrect at the last"
        yield gives(lambda *g: answer(*g)[1], given, found.correct & ~last, avoided)


@exercise
def check_1(answer: Callable[[Any], Any]) -> Lines:
    """The mixture of labels around an image goes together with its exit, even without the image's own label."""
    labels = _labels_nearby()
    score = np.asarray(answer(labels.copy()), float)
    yield score.shape == (len(labels),), f"give {len(labels):,} numbers, not {score.shape}"
    renamed = np.random.default_rng(0).permutation(labels.max() + 1)[labels]
    hint = "with the classes in another order the score changes: labels are names, so count them"
    yield gives(answer, (renamed,), score, hint)
    found = roc_auc_score(_outcome().exits > 0, score)
    yield found >= 0.75, f"an AUC of {found:.2f}: it must be high where the neighbours' labels are mixed"


@exercise
def check_2(answer: Callable[[Any, Any], Any]) -> Lines:
    """No policy could use it: it reads exits behind the image's own, and those are not computed."""
    outcome = _outcome()
    found = roc_auc_score(~outcome.correct, answer(outcome.record.prediction.copy(), outcome.exits.copy()))
    yield found >= 0.8, f"an AUC of {found:.2f} for images that are incorrect at their exit"


@exercise
def check_3(answer: Callable[[Any, Any, Any], Any]) -> Lines:
    """From there on more images are sent deeper, and no gain is shown for them."""
    grids = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99), (0.3, 0.32, 0.34), (0.4, 0.75, 0.76, 0.77, 1.01), (0.9, 0.95, 0.99)
    for record in (dx.load_run("fashion").record(split) for split in ("test", "calibration")):
        for grid in grids:
            hint = f"the thresholds {grid} on {record.meta.split}"
            yield gives(answer, (record.confidence, record.correct, grid), _last_that_pays(record, grid), hint)


def _last_that_pays(record: dx.ExitRecord, thresholds: tuple[float, ...]) -> float | None:
    """The upper threshold of the last step with a gain for the images that move; None if there is none."""
    found, last = [dx.apply(dx.fit_policy(record, threshold=t), record) for t in thresholds], None
    for before, after, threshold in zip(found, found[1:], thresholds[1:], strict=False):
        gain = (after.correct.astype(float) - before.correct)[after.exits != before.exits]
        if len(gain) > 1 and gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5:
            last = threshold
    return last


@cache
def _labels_nearby(n: int = 10) -> Any:
    """Labels of the nearest test images by pixels (cosine), without the image itself: (B, n)."""
    run = dx.load_run("fashion")
    images, labels = run.image_set("test"), run.record("test").labels
    flat = np.stack([images[i][..., 0].ravel() for i in range(len(labels))]).astype(np.float32)
    return labels[NearestNeighbors(n_neighbors=n, metric="cosine").fit(flat).kneighbors(return_distance=False)]


def _outcome() -> dx.Outcome:
    run = dx.load_run("fashion")
    return dx.apply(dx.fit_policy(run.record("calibration"), flops=0.30), run.record("test"))

"""Checks of what lessons 1 and 6 and the extra build: rules and loops over scores, a test of thresholds, maps.

In: a function as the student's edition asks for it. Out: as `checks`: a line that says it is correct, or `NotYet`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.stats import binom

import dmpo_explore as dx

from .checks import Lines, NotYet, build

KINDS = {"b": ("b", "true or false"), "i": ("iu", "whole numbers"), "f": ("fiu", "numbers")}  # of numpy's dtypes


@cache
def _record() -> dx.ExitRecord:
    return dx.load_run("demo").record("test").subset(np.arange(0, 1300, 3))


def same(found: Any, due: Any, hint: str) -> Lines:
    """Lines of a check: an array has the kind, shape and values of another."""
    values, wanted = np.asarray(found), np.asarray(due)
    kinds, name = KINDS[wanted.dtype.kind]
    yield found is not None, f"it returns nothing: {hint}"
    yield values.shape == wanted.shape, f"it returns the shape {values.shape}, not {wanted.shape}: {hint}"
    yield values.dtype.kind in kinds, f"it must return {name}, not {values.dtype}: {hint}"
    far = np.argwhere(~np.isclose(values.astype(float), wanted.astype(float), rtol=1e-4, atol=1e-5))
    if len(far):
        where = tuple(far[0])
        at = f" at {', '.join(map(str, where))}" if where else ""
        yield False, f"it returns {values[where]}{at}, and it should be {wanted[where]}: {hint}"


@build("exits_of")
def exits(answer: Callable[[Any, float], Any]) -> Lines:
    """Correct: the exits are those of the library's policy, at every threshold that was tried."""
    confidence = _record().confidence
    for threshold in (0.0, 0.25, 0.4, 0.9, float(confidence[:, 0].max()), 1.01):
        given = confidence.copy()
        due = dx.fit_policy(_record(), threshold=threshold).exits(_record())
        hint = f"exits at the threshold {threshold:.3f}; reaching it is enough, and the last exit takes what is left"
        yield from same(answer(given, threshold), due, hint)
        yield bool((given == confidence).all()), "the exits are correct, but the confidences were changed on the way"


@build("mistakes")
def mistakes(answer: Callable[[Any, Any], Any]) -> Lines:
    """Correct: they are the images that `dx.Outcome` finds, at any exits."""
    record = _record()
    anywhere = np.random.default_rng(0).integers(0, record.n_exits, record.n_images)
    for found in (anywhere, dx.fit_policy(record, threshold=0.4).exits(record)):
        outcome, given = dx.Outcome(record, found), answer(record.correct.copy(), found.copy())
        yield isinstance(given, tuple) and len(given) == 2, "it must return two masks"
        yield from same(given[0], outcome.early_exit_error, "lost: incorrect at its exit, correct at the last")
        avoided = outcome.correct & ~record.correct[:, -1]
        yield from same(given[1], avoided, "saved: correct at its exit, incorrect at the last")


@build("loop")
def loop(answer: Callable[..., Any]) -> Lines:
    """Correct: it reads the exits so far and computes none in vain. On a real model that is the saving."""
    record = _record()
    for threshold in (0.0, 0.4, 0.8, float(record.confidence[0, 0]), 1.01):
        looked = np.zeros((record.n_images, record.n_exits), int)

        def look(k: int, rows: Any, looked: Any = looked) -> Any:
            rows = np.arange(record.n_images)[rows]  # numbers, or a mask
            if not len(rows):
                raise NotYet(f"exit {k + 1} is computed for no image at all: stop when every image has exited")
            looked[rows, k] += 1
            return record.confidence[rows, k]

        due = dx.fit_policy(record, threshold=threshold).exits(record)
        yield from same(answer(look, record.n_images, record.n_exits, threshold), due, f"threshold {threshold:.3f}")
        needed = np.arange(record.n_exits) <= due[:, None]
        hint = "the exits are correct, but one was computed twice, or for an image that had exited before it"
        yield bool((looked[:, :-1] == needed[:, :-1]).all()), hint
        last = "the exits are correct, but images that reach the last exit never had it computed: it must answer them"
        yield bool((looked[:, -1] == needed[:, -1]).all()), last


@build("passing")
def passing(answer: Callable[[Any, int, float, float], Any]) -> Lines:
    """Correct: it is Learn then Test, a fixed order, a p-value per threshold, and a stop at the first failure."""
    for errors, n, epsilon, delta in (
        ([0, 3, 9, 2, 1, 8], 500, 0.01, 0.05),
        ([9, 0, 0], 500, 0.01, 0.05),
        ([0, 0, 1], 500, 0.01, 0.05),
        ([0, 0], 50, 0.05, 0.05),
        (range(40), 655, 0.05, 0.05),
        (range(40), 655, 0.03, 0.2),
    ):
        due = np.minimum.accumulate(binom.cdf(errors, n, epsilon) <= delta).sum()
        hint = f"thresholds that pass before the first failure, for errors {list(errors)[:6]} of {n}"
        yield from same(answer(np.array(errors), n, epsilon, delta), due, hint)


@build("drops_of")
def drops(answer: Callable[..., Any]) -> Lines:
    """Correct: it is what `dx.attribute(…, method="feature_ablation")` gives, for all exits at once."""
    torch.manual_seed(1)
    config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
    model = dx.build_model(config, n_classes=5).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.2)
    for x in torch.randn(2, 3, 32, 32):
        hidden = dx.attribution.make_baseline(model, x[None], "black")[0]
        maps = dx.compare_exits(model, x, method="feature_ablation").attributions
        due = np.stack([one.tokens.ravel() for one in maps])
        hint = "the logit of the last exit's class, less the same with one patch hidden; patches row by row"
        yield from same(answer(model, x.clone(), hidden, 16), due, hint)

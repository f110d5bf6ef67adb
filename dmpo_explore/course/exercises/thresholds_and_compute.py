"""Exercises of 05_thresholds_and_compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import binom

import dmpo_explore as dx

from . import Lines, exercise, gives


@exercise
def check_build(answer: Callable[..., Any]) -> Lines:
    """It reads the prefix alone and computes no exit in vain: on a real model this is the saving."""
    test = dx.load_run("fashion").record("test").subset(np.arange(500))
    for threshold in (0.0, 0.5, 0.8, float(test.confidence[0, 0]), 1.01):
        looked = np.zeros((test.n_images, test.n_exits), int)

        def look(k: int, rows: Any) -> Any:
            rows = np.arange(test.n_images)[rows]  # numbers, or a mask
            looked[rows, k] += 1  # noqa: B023 (called in this round)
            return test.confidence[rows, k]

        expected = dx.fit_policy(test, threshold=threshold).exits(test)
        hint = f"exits of the images at the threshold {threshold:.3f}"
        yield gives(answer, (look, test.n_images, test.n_exits, threshold), expected, hint)
        needed = np.arange(test.n_exits - 1) <= expected[:, None]  # of the last exit, only the prediction
        hint = "the exits are correct, but one was computed twice, or for an image that had exited before it"
        yield (looked[:, :-1] == needed).all(), hint


@exercise
def check_1(answer: Callable[[Any, int], Any]) -> Lines:
    """It is PABEE's rule. It reads no confidence, so it cannot stop at exit 1."""
    for row, exits in {
        (7, 7, 7, 7, 7): (1, 2, 3, 4),  # with a patience of 1, 2, 3 and 4
        (7, 1, 1, 1, 7): (2, 3, 4, 4),
        (3, 3, 5, 5, 1): (1, 4, 4, 4),
        (1, 2, 2, 3, 3): (2, 4, 4, 4),
        (0, 1, 0, 1, 0): (4, 4, 4, 4),
    }.items():
        for patience, exit in enumerate(exits, start=1):
            yield gives(answer, (np.array([row]), patience), [exit])


@exercise
def check_2(answer: Callable[[Any, int, float, float], Any]) -> Lines:
    """It is Learn then Test: a fixed order, a p-value per threshold, and a stop at the first failure."""
    for errors, n, epsilon, delta in (
        ([0, 3, 9, 2, 1, 8], 500, 0.01, 0.05),
        ([9, 0, 0], 500, 0.01, 0.05),
        ([0, 0, 1], 500, 0.01, 0.05),
        ([0, 0], 50, 0.05, 0.05),
        (range(40), 5000, 0.005, 0.05),
        (range(40), 5000, 0.005, 0.2),
    ):
        passes = binom.cdf(errors, n, epsilon) <= delta
        given = np.array(errors), n, epsilon, delta
        yield gives(answer, given, np.minimum.accumulate(passes).sum(), "thresholds that pass before the first failure")


@exercise
def check_3(answer: Callable[[Any, Any, Any, float], float]) -> Lines:
    """It is what `fit_policy` does: a budget is a limit, and the most accurate threshold may use less."""
    for name, budget in (("fashion", 0.22), ("fashion", 0.3), ("fashion", 0.6), ("fashion-naive", 0.3)):
        record = dx.load_run(name).record("calibration")
        threshold = float(answer(record.confidence.copy(), record.correct.copy(), record.flops_fraction.copy(), budget))
        found = dx.summarise(record, dx.fit_policy(record, threshold=threshold).exits(record))
        best = dx.summarise(record, dx.fit_policy(record, flops=budget).exits(record))
        used, reached = found["flops_fraction"], f"{found['accuracy']:.2%}, and {best['accuracy']:.2%} can be reached"
        yield used <= budget, f"{name}, budget {budget:.0%}: {threshold:.3f} uses {used:.1%} of the compute"
        good = found["accuracy"] >= best["accuracy"] - 0.002
        yield good, f"{name}, budget {budget:.0%}: {threshold:.3f} has an accuracy of {reached}"

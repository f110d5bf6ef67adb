"""Exercises of 05_thresholds_and_compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import binom

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: Callable[..., Any]) -> str:
    """It reads the prefix alone and computes no exit in vain: on a real model this is the saving."""
    test = dx.load_run("demo").record("test").subset(np.arange(500))
    for threshold in (0.0, 0.5, 0.8, float(test.confidence[0, 0]), 1.01):
        looked = np.zeros((test.n_images, test.n_exits), int)

        def look(k: int, rows: Any) -> Any:
            rows = np.arange(test.n_images)[rows]  # numbers, or a mask
            looked[rows, k] += 1  # noqa: B023 (called in this round)
            return test.confidence[rows, k]

        expected = dx.fit_policy(test, threshold=threshold).exits(test)
        exits = np.asarray(answer(look, test.n_images, test.n_exits, threshold))
        if exits.dtype == object:
            return "it returns no exits yet"
        if exits.shape != expected.shape or not np.issubdtype(exits.dtype, np.integer):
            return f"give one whole number per image: not {exits.dtype} {exits.shape}"
        for row, got, exit in zip(test.confidence, exits, expected, strict=True):
            if got != exit:
                return f"with {row.round(2).tolist()} and threshold {threshold:.3f} it returns {got}"
        needed = np.arange(test.n_exits - 1) <= expected[:, None]  # of the last exit, only the prediction
        if wrong := _first(looked[:, :-1] != needed):
            image, k = wrong
            return f"the exits are correct, but exit {k + 1} was computed {looked[image, k]} times for image {image}"
    return ""


def _first(mask: Any) -> tuple[int, int] | None:
    rows, columns = np.nonzero(mask)
    return (int(rows[0]), int(columns[0])) if len(rows) else None


@exercise
def check_1(answer: Callable[[Any, int], Any]) -> str:
    """It is PABEE's rule. It reads no confidence, so it cannot stop at exit 1."""
    test = dx.load_run("demo").record("test")
    for patience in range(1, test.n_exits):
        expected = dx.fit_policy(test, "patience", threshold=patience).exits(test)
        exits = np.asarray(answer(test.prediction.copy(), patience))
        if exits.shape != expected.shape or not np.issubdtype(exits.dtype, np.integer):
            return f"give one whole number per image: not {exits.dtype} {exits.shape}"
        if (exits != expected).any():
            image = int((exits != expected).argmax())
            return (
                f"with predictions {test.prediction[image].tolist()} and patience {patience} it returns {exits[image]}"
            )
    return ""


@exercise
def check_2(answer: Callable[[Any, int, float, float], Any]) -> str:
    """It is Learn then Test: a fixed order, a p-value per threshold, and a stop at the first failure."""
    for errors, n, epsilon, delta in _sequences():
        passed = answer(errors.copy(), n, epsilon, delta)
        expected = _passed(errors, n, epsilon, delta)
        if isinstance(passed, bool) or int(passed) != passed:
            return f"give a whole number, not {passed!r}"
        if passed != expected:
            start = errors[max(expected - 2, 0) : expected + 3].tolist()
            return (
                f"with n = {n}, ε = {epsilon}, δ = {delta} it returns {int(passed)}; around the first failure the "
                f"errors are {start}"
            )
    return ""


def _sequences() -> list[tuple[Any, int, float, float]]:
    """Errors, n, ε and δ: few images, no and every threshold that passes, one behind a failure, and demo's."""
    calibration, grid = dx.load_run("demo").record("calibration"), (1.01, *np.linspace(1, 0.3, 141))
    policies = [dx.fit_policy(calibration, threshold=threshold) for threshold in grid]
    real = np.array([dx.fitting.too_early(calibration, policy.exits(calibration)).sum() for policy in policies])
    made = [([0, 3, 9, 2, 1, 8], 500, 0.01), ([9, 0, 0], 500, 0.01), ([0, 0, 1], 500, 0.01), ([0, 0], 50, 0.05)]
    few = [(np.array(errors), n, epsilon, 0.05) for errors, n, epsilon in made]
    return few + [(real, calibration.n_images, epsilon, delta) for epsilon in (0.005, 0.02) for delta in (0.05, 0.2)]


def _passed(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """How many thresholds pass before the first failure."""
    fails = binom.cdf(errors, n, epsilon) > delta
    return int(fails.argmax()) if fails.any() else len(fails)


@exercise
def check_3(answer: Callable[[Any, Any, Any, float], float]) -> str:
    """It is what `fit_policy` does: a budget is a limit, and the most accurate threshold may use less."""
    for name, budget in (("demo", 0.22), ("demo", 0.3), ("demo", 0.6), ("demo-naive", 0.3)):
        record = dx.load_run(name).record("calibration")
        threshold = float(answer(record.confidence.copy(), record.correct.copy(), record.flops_fraction.copy(), budget))
        found = dx.summarise(record, dx.fit_policy(record, threshold=threshold).exits(record))
        best = dx.summarise(record, dx.fit_policy(record, flops=budget).exits(record))
        if found["flops_fraction"] > budget:
            return f"{name}, budget {budget:.0%}: {threshold:.3f} uses {found['flops_fraction']:.1%} of the compute"
        if found["accuracy"] < best["accuracy"] - 0.002:
            reached = f"{found['accuracy']:.2%}, and {best['accuracy']:.2%} can be reached"
            return f"{name}, budget {budget:.0%}: {threshold:.3f} has an accuracy of {reached}"
    return ""

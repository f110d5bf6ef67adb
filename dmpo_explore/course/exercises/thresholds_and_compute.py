"""Exercises of 05_thresholds_and_compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dmpo_explore as dx

from ...utils.arrays import at_exits
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
def check_2(answer: Callable[[Any, Any, float], Any]) -> str:
    """No policy within the budget can be more accurate on these images. It reads labels, so no model can use it."""
    test = dx.load_run("demo").record("test")
    for budget in (0.185, 0.19, 0.2, 0.3):
        exits = np.asarray(answer(test.correct.copy(), test.flops_fraction.copy(), budget))
        if exits.shape != (test.n_images,) or not np.issubdtype(exits.dtype, np.integer):
            return f"give one whole number per image: not {exits.dtype} {exits.shape}"
        used, best = test.flops_fraction[exits].mean(), _most_correct(test, budget)
        if used > budget + 1e-9:
            return f"within {budget:.1%} it uses {used:.2%} of the compute"
        if (hits := int(at_exits(test.correct, exits).sum())) < best:
            return f"within {budget:.1%} it has {hits:,} correct images; {best:,} are possible"
    return ""


def _most_correct(record: dx.ExitRecord, budget: float) -> int:
    """How many images can be correct at exits whose mean compute is within the budget."""
    share, correct = record.flops_fraction, record.correct
    extra = np.sort(share[correct.argmax(axis=1)] - share[0])[int((~correct.any(axis=1)).sum()) :]
    return int((np.cumsum(extra) <= (budget - share[0]) * record.n_images).sum())


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

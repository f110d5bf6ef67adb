"""Exercises of 05_thresholds_and_compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: Callable[[Any, float], Any]) -> str:
    """That is the whole policy, on 10,000 images at once; fitting only chooses its threshold."""
    test = dx.load_run("demo").record("test")
    for threshold in (0.0, 0.5, 0.8, float(test.confidence[0, 0]), 1.01):
        expected = dx.fit_policy(test, threshold=threshold).exits(test)
        exits = np.asarray(answer(test.confidence.copy(), threshold))
        if exits.dtype == object:
            return "it returns no exits yet"
        if exits.shape != expected.shape or not np.issubdtype(exits.dtype, np.integer):
            return f"give one whole number per image: not {exits.dtype} {exits.shape}"
        for row, got, exit in zip(test.confidence, exits, expected, strict=True):
            if got != exit:
                return f"with {row.round(2).tolist()} and threshold {threshold:.3f} it returns {got}"
    return ""


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
def check_2(answer: Callable[[Any], Any]) -> str:
    """It reaches the bound with the least compute. It reads labels, so no model can use it."""
    test = dx.load_run("demo").record("test")
    exits = np.asarray(answer(test.correct.copy()))
    if exits.shape != (test.n_images,) or not np.issubdtype(exits.dtype, np.integer):
        return f"give one whole number per image: not {exits.dtype} {exits.shape}"
    found, best = dx.summarise(test, exits), test.correct.any(axis=1).mean()
    if found["accuracy"] < best:
        return f"accuracy {found['accuracy']:.2%}; some exit is correct for {best:.2%}"
    least = test.flops_fraction[test.correct.argmax(axis=1)].mean()
    if found["flops_fraction"] > least + 1e-9:
        return f"it uses {found['flops_fraction']:.1%} of the compute; {least:.1%} are enough"
    return ""


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

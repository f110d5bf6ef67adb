"""Exercises of 05_thresholds_and_compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: float) -> str:
    """A strict target takes most of the savings from a model with weak early exits."""
    naive = dx.load_run("demo-naive")
    test = naive.record("test")
    exits = dx.fit_policy(naive.record("calibration"), "entropy", accuracy_drop=0.005).exits(test)
    used = dx.summarise(test, exits)["flops_fraction"]
    return (
        ""
        if abs(float(answer) - used) < 2e-3
        else "fit on its calibration record, apply to its test, and read `flops_fraction`."
    )


@exercise
def check_2(answer: float) -> str:
    """Compute without a gain; no policy can detect it without the labels."""
    demo = dx.load_run("demo")
    test = demo.record("test")
    wasted = test.correct[:, 0] & (dx.fit_policy(demo.record("calibration"), flops=0.3).exits(test) > 0)
    return "" if abs(float(answer) - wasted.mean()) < 1e-3 else "both at once: correct at exit 1, and an exit after it."


@exercise
def check_3(answer: Callable[[Any, float], int]) -> str:
    """That is the whole policy; fitting only chooses its threshold."""
    test = dx.load_run("demo").record("test")
    for threshold in (0.0, 0.5, 0.8, 1.01):
        expected = dx.fit_policy(test, threshold=threshold).exits(test)[:200]
        for row, exit in zip(test.confidence[:200], expected, strict=True):
            if (got := int(answer(row, threshold))) != exit:
                return f"with {row.round(2).tolist()} and threshold {threshold} it returns {got}."
    return ""

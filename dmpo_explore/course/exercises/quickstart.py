"""Exercises of 00_quickstart."""

from __future__ import annotations

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: int) -> str:
    """These images use more compute than the plain backbone: every early exit was computed in vain."""
    run = dx.load_run("demo")
    exits = dx.fit_policy(run.record("calibration"), flops=0.30).exits(run.record("test"))
    return "" if int(answer) == (exits == exits.max()).sum() else "count where `exits` has its largest value."


@exercise
def check_2(answer: int) -> str:
    """Later exits would have made it incorrect. How many such images are there?"""
    first, last = dx.load_run("demo").record("test").correct[int(answer), [0, -1]]
    return "" if first and not last else f"at exit 1 it is {_word(first)}, at the last exit {_word(last)}."


@exercise
def check_3(answer: float) -> str:
    """Several thresholds do it: there is a plateau."""
    val = dx.load_run("demo").record("calibration")
    seen = dx.summarise(val, dx.fit_policy(val, threshold=float(answer)).exits(val))
    fine = seen["flops_fraction"] <= 0.22 and seen["accuracy"] >= 0.915
    return (
        ""
        if fine
        else f"on calibration that is {seen['accuracy']:.2%} correct at {seen['flops_fraction']:.1%} compute."
    )


def _word(correct: bool) -> str:
    return "correct" if correct else "incorrect"

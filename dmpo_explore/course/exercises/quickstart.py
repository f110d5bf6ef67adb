"""Exercises of 00_quickstart."""

from __future__ import annotations

from collections.abc import Callable

import dmpo_explore as dx

from . import exercise


@exercise
def check_1(answer: tuple[int, int]) -> str:
    """Deeper exits also make images incorrect that exit 1 had correct."""
    run = dx.load_run("demo")
    record = run.record("test")
    policy = dx.apply(dx.fit_policy(run.record("calibration"), flops=0.30), record).correct
    first = record.correct[:, 0]
    gained, lost = (int(number) for number in answer)
    if gained - lost != policy.sum() - first.sum():
        return "`gained` less `lost` is not the difference of the two numbers of correct images."
    return "" if lost == (first & ~policy).sum() else "their difference is right, but not the two numbers."


@exercise
def check_2(answer: int) -> str:
    """Later exits would have made it incorrect. How many such images are there?"""
    first, last = dx.load_run("demo").record("test").correct[int(answer), [0, -1]]
    return "" if first and not last else f"at exit 1 it is {_word(first)}, at the last exit {_word(last)}."


@exercise
def check_3(answer: Callable[[dx.ExitRecord], float]) -> str:
    """It meets the target on the calibration records of two models, and no threshold of the table is cheaper."""
    for name in ("demo", "demo-naive"):
        record = dx.load_run(name).record("calibration")
        seen = dx.summarise(record, dx.fit_policy(record, threshold=float(answer(record))).exits(record))
        found, full = f"for the run {name} that is {seen['accuracy']:.2%} correct", record.correct[:, -1].mean()
        if seen["accuracy"] < full:
            return f"{found}, and its last exit {full:.2%}."
        table = dx.trade_off(record)
        least = table[table["accuracy"] >= full]["flops_fraction"].min()
        if seen["flops_fraction"] > least + 1e-6:
            return f"{found} at {seen['flops_fraction']:.1%} compute; {least:.1%} is enough."
    return ""


def _word(correct: bool) -> str:
    return "correct" if correct else "incorrect"

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
def check_2(answer: list[str]) -> str:
    """For these two, exit 1 is more accurate than the last exit. Over all images 208 are lost so, and 423 corrected."""
    record = dx.load_run("demo").record("test")
    first, last = record.correct[:, 0].astype(int), record.correct[:, -1].astype(int)
    names = record.meta.class_names
    lost = {name: int((first - last)[record.labels == c].sum()) for c, name in enumerate(names)}
    given = [str(name) for name in answer]
    if foreign := [name for name in given if name not in lost]:
        return f"there is no class {foreign[0]!r}; the names are {', '.join(names)}."
    if wrong := [name for name in given if lost[name] <= 0]:
        return f"for {wrong[0]} {-lost[wrong[0]]} more are corrected than lost."
    missing = sum(number > 0 for number in lost.values()) - len(set(given))
    return f"that is true of them, but of {missing} more." if missing else ""


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

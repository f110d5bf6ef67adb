"""Exercises of 00_quickstart."""

from __future__ import annotations

from collections.abc import Callable

import dmpo_explore as dx

from . import Lines, exercise


@exercise
def check_1(answer: tuple[int, int]) -> Lines:
    """Deeper exits also make images incorrect that exit 1 had correct."""
    run = dx.load_run("fashion")
    record = run.record("test")
    policy = dx.apply(dx.fit_policy(run.record("calibration"), flops=0.30), record).correct
    first = record.correct[:, 0]
    gained, lost = (int(number) for number in answer)
    difference = policy.sum() - first.sum()
    yield gained - lost == difference, "`gained` less `lost` is not the difference of the two numbers of correct images"
    yield lost == (first & ~policy).sum(), "their difference is right, but not the two numbers"


@exercise
def check_2(answer: list[str]) -> Lines:
    """For these two, exit 1 is more accurate than the last exit. Over all images 208 are lost so, and 423 corrected."""
    record = dx.load_run("fashion").record("test")
    first, last = record.correct[:, 0].astype(int), record.correct[:, -1].astype(int)
    names = record.meta.class_names
    lost = {name: int((first - last)[record.labels == c].sum()) for c, name in enumerate(names)}
    for name in answer:
        yield name in lost, f"there is no class {name!r}; the names are {', '.join(names)}"
        yield lost[name] > 0, f"for {name} {-lost[name]} more are corrected than lost"
    missing = sum(number > 0 for number in lost.values()) - len(set(answer))
    yield not missing, f"that is true of them, but of {missing} more"


@exercise
def check_3(answer: Callable[[dx.ExitRecord], float]) -> Lines:
    """It meets the target on the calibration records of two models, and no threshold of the table is cheaper."""
    for name in ("fashion", "fashion-naive"):
        record = dx.load_run(name).record("calibration")
        seen = dx.summarise(record, dx.fit_policy(record, threshold=float(answer(record))).exits(record))
        found, full = f"for the run {name} that is {seen['accuracy']:.2%} correct", record.correct[:, -1].mean()
        yield seen["accuracy"] >= full, f"{found}, and its last exit {full:.2%}"
        table = dx.trade_off(record)
        least = table[table["accuracy"] >= full]["flops_fraction"].min()
        used = seen["flops_fraction"]
        yield used <= least + 1e-6, f"{found} at {used:.1%} compute; {least:.1%} is enough"

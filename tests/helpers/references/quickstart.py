"""Incorrect answers to the exercises of 00_quickstart, and its key numbers from the library."""

from __future__ import annotations

import dmpo_explore as dx

RECORD, VAL = dx.load_run("fashion").record("test"), dx.load_run("fashion").record("calibration")
POLICY = dx.fit_policy(VAL, flops=0.30)
EXITS = POLICY.exits(RECORD)
CORRECT = dx.apply(POLICY, RECORD).correct


SPACE = {"record": RECORD, "calibration": VAL, "exits": EXITS, "correct": CORRECT}  # names of the notebook
INCORRECT = {
    1: (int(CORRECT.sum() - RECORD.correct[:, 0].sum()), 0),
    2: ["Ankle boot", "Shirt"],
    3: lambda record: dx.fit_policy(record, flops=0.30).thresholds[0],
}


def numbers() -> dict[str, float | str]:
    seen = dx.summarise(RECORD, EXITS)
    return {
        "threshold": POLICY.thresholds[0],
        "accuracy": seen["accuracy"],
        "accuracy_at_the_last_exit": seen["full_accuracy"],
        "compute": seen["flops_fraction"],
        "mean_exit": seen["mean_exit"],
        "share_at_exit_1": seen["exit_shares"][0],
    }

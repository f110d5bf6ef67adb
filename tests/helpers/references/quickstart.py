"""Correct and incorrect answers to the exercises of 00_quickstart, and its key numbers from the library."""

from __future__ import annotations

import numpy as np

import dmpo_explore as dx

RECORD, VAL = dx.load_run("demo").record("test"), dx.load_run("demo").record("calibration")
POLICY = dx.fit_policy(VAL, flops=0.30)
EXITS = POLICY.exits(RECORD)
CURVE = dx.trade_off(VAL, points=None)
FINE = CURVE[(CURVE["flops_fraction"] <= 0.22) & (CURVE["accuracy"] >= 0.915)]

ANSWERS = {
    1: int(np.bincount(EXITS)[-1]),
    2: int(np.flatnonzero(RECORD.correct[:, 0] & ~RECORD.correct[:, -1])[0]),
    3: float(FINE["threshold"].iloc[0]),
}
SPACE = {"record": RECORD, "calibration": VAL, "exits": EXITS}  # names of the notebook
INCORRECT = {1: int(np.bincount(EXITS)[0]), 2: int(np.flatnonzero(RECORD.correct[:, -1])[0]), 3: 0.95}


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

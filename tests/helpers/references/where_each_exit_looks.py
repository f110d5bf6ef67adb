"""Correct and incorrect answers to the exercises of 06_where_each_exit_looks, and its key numbers from the library."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import dmpo_explore as dx

TOLERANCE = 1e-3  # logits of float32: threads and processors differ in the last digits


@cache
def _maps() -> tuple[np.ndarray, float]:
    run = dx.load_run("demo")
    maps = dx.compare_exits(run.model(device="cpu"), run.inputs("test", [0])[0], method="feature_ablation")
    return np.stack([a.tokens for a in maps.attributions]), maps.attributions[-1].difference


def _shares() -> tuple[np.ndarray, list[float]]:
    run = dx.load_run("demo")
    record = run.record("test")
    exits = dx.fit_policy(run.record("calibration"), flops=0.30).exits(record)
    return exits, [float((exits[record.labels == c] == 0).mean()) for c in range(len(record.meta.class_names))]


def _sandal_on_black() -> float:
    run = dx.load_run("demo")
    model = run.model(device="cpu")
    side = model.preprocess.image_size
    black = -torch.tensor(model.preprocess.mean) / torch.tensor(model.preprocess.std)
    with torch.no_grad():
        logits = model(black.view(1, 3, 1, 1).expand(1, 3, side, side))
    return float(logits[0, 1].softmax(dim=0)[NAMES.index("Sandal")])


NAMES = dx.load_run("demo").record("test").meta.class_names
ANSWERS = {
    1: int(np.abs(_maps()[0]).max(axis=(1, 2)).argmax()) + 1,
    2: NAMES[int(np.argmin(_shares()[1]))],
    3: lambda heat: dx.attribution.to_cells(heat, (5, 5)),
}
INCORRECT = {
    1: int(np.abs(_maps()[0]).max(axis=(1, 2)).argmin()) + 1,
    2: NAMES[int(np.argmax(_shares()[1]))],
    3: lambda heat: dx.attribution.to_cells(heat, (5, 5), mean=True),
}


def numbers() -> dict[str, float | str | int]:
    exits, shares = _shares()
    drops, difference = _maps()
    return {
        "exited_at_exit_1": float((exits == 0).mean()),
        "shirts_exiting_at_exit_1": shares[NAMES.index("Shirt")],
        "logit_difference_at_last_exit": difference,
        "strongest_patch_at_last_exit": int(np.abs(drops[-1]).argmax()),
        "black_taken_for_a_sandal_at_exit_2": _sandal_on_black(),
    }


SPACE = {"drops": _maps()[0]}  # what the solutions in the notebook read

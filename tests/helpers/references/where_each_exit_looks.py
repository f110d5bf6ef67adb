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


def _without_each_patch(row: int) -> torch.Tensor:
    """What exit 1's logits (25, classes) of an image lose when one patch of it is black."""
    run = dx.load_run("demo")
    model, image = run.model(device="cpu"), run.inputs("test", [row])[0]
    black = -torch.tensor(model.preprocess.mean) / torch.tensor(model.preprocess.std)
    hidden = image.repeat(25, 1, 1, 1)
    for patch in range(25):
        y, x = 14 * (patch // 5), 14 * (patch % 5)
        hidden[patch, :, y : y + 14, x : x + 14] = black[:, None, None]
    with torch.no_grad():
        lost: torch.Tensor = model(image[None])[:, 0] - model(hidden)[:, 0]
    return lost


def _tee() -> tuple[int, int]:
    lost = _without_each_patch(155)
    shirt, pullover = lost[:, NAMES.index("T-shirt/top")], lost[:, NAMES.index("Pullover")]
    return int((shirt - pullover).argmax()), int(shirt.argmax())


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
    2: _tee()[0],
    3: lambda heat: dx.attribution.to_cells(heat, (5, 5)),
}
INCORRECT = {
    1: int(np.abs(_maps()[0]).max(axis=(1, 2)).argmin()) + 1,
    2: _tee()[1],
    3: lambda heat: dx.attribution.to_cells(heat, (5, 5), mean=True),
}


def numbers() -> dict[str, float | str | int]:
    run = dx.load_run("demo")
    record = run.record("test")
    exits = dx.fit_policy(run.record("calibration"), flops=0.30).exits(record)
    lost, shirt, coat = _without_each_patch(205), NAMES.index("Shirt"), NAMES.index("Coat")
    with torch.no_grad():
        first = run.model(device="cpu")(run.inputs("test", [205]))[0, 0].softmax(dim=0)
    drops, difference = _maps()
    return {
        "exited_at_exit_1": float((exits == 0).mean()),
        "shirt_at_exit_1_of_image_205": float(first[shirt]),
        "patch_for_a_coat_against_a_shirt": int((lost[:, coat] - lost[:, shirt]).argmax()),
        "logit_difference_at_last_exit": difference,
        "strongest_patch_at_last_exit": int(np.abs(drops[-1]).argmax()),
        "black_taken_for_a_sandal_at_exit_2": _sandal_on_black(),
    }


_RUN = dx.load_run("demo")
SPACE = {"drops": _maps()[0], "run": _RUN, "model": _RUN.model(device="cpu"), "names": NAMES}  # what the solutions read

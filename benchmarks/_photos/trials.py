"""Trials on Caltech-101, read on val: what is tried, in order, each a named change of `BASE`.

`TRIALS` are trainings, of which PHOTOS.md says which were not run; `SMALL_SCREENS` train the exits alone, on frozen
tokens. `SHIPPED` is the bundled run `caltech`: larger images, all training images, seed 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dmpo_explore as dx
from _study.grids import NAIVE, change

BASE = dx.Config(
    dx.DataConfig("caltech101", train_size=2500, calibration=True),
    dx.ModelConfig(image_size=98, exits=(3, 6, 9, 12)),
    dx.TrainingConfig(epochs=6, validation_size=250, precision="bf16"),
)


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        question: what it answers.
        changes: fields of `BASE`'s three parts by name.
        smoothing: of the labels (of `SMALL_SCREENS` only).
    """

    question: str
    changes: dict[str, Any] = field(default_factory=dict)
    smoothing: float = 0.0

    def config(self, seed: int) -> dx.Config:
        """Its config; ``seed`` is that of data and training alike."""
        return change(BASE, seed=seed, **self.changes)


HEAD: dict[str, Any] = {"last_bypass": "conv", "last_predictor": "covariance"}
MERGED: dict[str, Any] = {"merge": 4, "exits": (3, 5, 7, 9, 12)}
SMALL: dict[str, Any] = {"exits": (4, 6, 8, 10, 12)}
LARGER: dict[str, Any] = {"image_size": 84, "exits": (3, 4, 5, 6, 8, 12)}
TINY: dict[str, Any] = SMALL | {"image_size": 56}
TRIALS: dict[str, Trial] = {
    "single-linear": Trial("full model, linear head", {"exits": 1}),
    "dmpo-merge-4": Trial("tokens merged, exits by cost", MERGED),
    "dmpo": Trial("the defaults"),
    "single-head": Trial("full model, DMPO's head", HEAD | {"exits": 1}),
    "single-head-merge-4": Trial("what merging costs a full model", HEAD | {"exits": 1, "merge": 4}),
    "static-6": Trial("static net", HEAD | {"exits": (6,)}),
    "static-8-merge-4": Trial("static net of merged tokens", HEAD | {"exits": (8,), "merge": 4}),
    "single-head-70": Trial("smaller image through all blocks", HEAD | {"exits": 1, "image_size": 70}),
    "single-head-56": Trial("smaller still through all blocks", HEAD | {"exits": 1, "image_size": 56}),
    "static-4": Trial("static net", HEAD | {"exits": (4,)}),
    "static-8": Trial("static net", HEAD | {"exits": (8,)}),
    "naive": Trial("naive exits", NAIVE | {"read": "both", "equilibrium": True}),
    "dmpo-70": Trial("smaller image, every block", SMALL | {"image_size": 70}),
    "dmpo-70-crop": Trial("against overfitting: mild crops", SMALL | {"image_size": 70, "crop_scale": 0.7}),
    "dmpo-84": Trial("a larger image, exits by cost", LARGER),
    "dmpo-84-crop": Trial("the same, mild crops", LARGER | {"crop_scale": 0.7}),
    "dmpo-84-earlier": Trial("the same, earlier exits' answers read", LARGER | {"earlier_exits": True}),
    "dmpo-84-smooth": Trial("label smoothing", LARGER | {"label_smoothing": 0.1}),
    "dmpo-84-long": Trial("the same, twice the epochs", LARGER | {"crop_scale": 0.7, "epochs": 12}),
    "dmpo-56": Trial("the same, smaller still", TINY),
    "dmpo-56-crop": Trial("random resized crop", TINY | {"crop_scale": 0.5}),
    "dmpo-56-long": Trial("twice the epochs", TINY | {"epochs": 12}),
    "dmpo-56-full": Trial("every weight of the trunk", TINY | {"tuning": "full", "tuning_lr": 1e-4}),
    "dmpo-56-wide": Trial("wider bypass and covariance", TINY | {"bypass_width": 192, "channels": 96}),
    "dmpo-56-distilled": Trial("distillation from the last exit", TINY | {"distill": 0.5}),
    "dmpo-84-merge-3": Trial("smaller image, merged, every block", SMALL | {"image_size": 84, "merge": 3}),
    "dmpo-merge-4-distilled": Trial("distillation from the last exit", MERGED | {"distill": 0.5}),
    "dmpo-merge-4-crop": Trial("random resized crop", MERGED | {"crop_scale": 0.5}),
    "dmpo-merge-4-batch-32": Trial("twice the steps", MERGED | {"batch_size": 32}),
    "dmpo-merge-4-switch": Trial("a longer second phase", MERGED | {"schedule": "switch", "phase_ratio": 0.3}),
    "dmpo-merge-6": Trial("more tokens merged", MERGED | {"merge": 6}),
}

PHOTOS: dict[str, Any] = LARGER | {"image_size": 140, "label_smoothing": 0.1, "train_size": None, "epochs": 4}
SHIPPED: dx.Config = change(BASE, **PHOTOS)  # of the bundled run `caltech`

# Exits on frozen tokens of the smallest image, where weights of earlier answers are fitted on different images.
SMALL_FROZEN: dict[str, Any] = TINY | {"schedule": "uniform", "epochs": 8, "tuning": "none"}
SMALL_SCREENS: dict[str, Trial] = {
    "frozen-56": Trial("exits by cost, today's heads", SMALL_FROZEN),
    "smoothing-0.1": Trial("label smoothing", SMALL_FROZEN, smoothing=0.1),
}

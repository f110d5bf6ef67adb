"""Trials on Caltech-101: what is tried, in order, each a named change of `BASE`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dmpo_explore as dx
from _study.grids import NAIVE, change

BASE = dx.Config(
    dx.DataConfig("caltech101", train_size=2500, calibration=True),
    dx.ModelConfig(image_size=98, exits=(3, 6, 9, 12)),
    dx.TrainingConfig(epochs=6, validation_size=250),
)


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        question: what it answers.
        changes: fields of `BASE`'s three parts by name.
    """

    question: str
    changes: dict[str, Any] = field(default_factory=dict)

    def config(self, seed: int) -> dx.Config:
        """Its config; ``seed`` is that of data and training alike."""
        return change(BASE, seed=seed, **self.changes)


TRIALS: dict[str, Trial] = {
    "single-linear": Trial("full model, linear head", {"exits": 1}),
    "dmpo": Trial("the defaults"),
    "single-linear-70": Trial("smaller image through all blocks", {"exits": 1, "image_size": 70}),
    "dmpo-70": Trial("the defaults on a smaller image", {"image_size": 70}),
    "naive": Trial("naive exits", NAIVE | {"equilibrium": True}),
}

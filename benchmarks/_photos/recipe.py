"""Trials of a recipe for photographs, read on val: Caltech-101 and groceries, in the order in which they are made.

Each is a change of `BASE`, the recipe of the study's second edition, or of another trial: one change at a time, then
together. A trial that is changed after its first run gets a new name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import dmpo_explore as dx
from _photos.protocol import RECIPE
from _photos.trials import BASE as DEFAULTS
from _photos.trials import HEAD
from _study.grids import change

DATA = {"caltech101": {"name": "caltech101"}}  # name → fields of its `DataConfig`
BASE = change(
    DEFAULTS, **RECIPE, precision="no"
)  # CPUs without instructions for bfloat16 take three times as long with it
FULL: dict[str, Any] = {"image_size": 98, "exits": 1}  # a full model with a linear head
LIGHT, STRONG = {"augment": "light"}, {"augment": "strong"}
LONG = {"epochs": 24}


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        question: what it answers. changes: fields of `BASE` by name. teacher: the trial that teaches it.
    """

    question: str
    changes: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""
    reference: int = DEFAULTS.model.image_size  # pixels: the plain backbone at this size is 100 % of the compute

    def config(self, data: str, seed: int) -> dx.Config:
        """Its config; ``seed`` is that of data and training alike."""
        taught = {"teacher": run_name(self.teacher, seed)} if self.teacher else {}
        return change(BASE, seed=seed, **DATA[data], **self.changes, **taught)


TRIALS: dict[str, Trial] = {
    "single-light": Trial("the full model, augmented: the teacher", FULL | LIGHT | {"epochs": 12}),
    "taught": Trial("a teacher, no augmentation", {}, "single-light"),
    "taught-light": Trial("a teacher on augmented views", LIGHT, "single-light"),
    "light": Trial("augmentation alone", LIGHT),
    "taught-light-24": Trial("a patient teacher: four times the epochs", LIGHT | LONG, "single-light"),
    "base": Trial("the recipe of the second edition"),
    "light-24": Trial("augmentation alone, four times the epochs", LIGHT | LONG),
    "taught-strong-24": Trial("stronger views", STRONG | LONG, "single-light"),
    "full-rate": Trial("a second phase that happens", {"schedule_rate": "full"}),
    "by-depth": Trial("loss weights by depth", {"schedule": "linear-by-depth"}),
    "uniform": Trial("no phases", {"schedule": "uniform"}),
    "earlier": Trial("exits that read earlier answers", {"earlier_exits": True}),
    "single": Trial("the full model of the second edition", FULL),
    "single-head-light": Trial("the full model with DMPO's head, augmented", FULL | HEAD | LIGHT | {"epochs": 12}),
}


def run_name(trial: str, seed: int) -> str:
    """The name of a trial's run."""
    return f"{trial}-s{seed}"


def wanted(names: Iterable[str]) -> list[str]:
    """The trials with their teachers, each teacher first."""
    found = dict[str, None]()
    for name in names:
        found |= dict.fromkeys((TRIALS[name].teacher, name))
    return [name for name in found if name]

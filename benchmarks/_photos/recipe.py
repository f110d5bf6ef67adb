"""Trials of a recipe for photographs, read on val: Caltech-101 and groceries, in the order in which they are made.

Each is a change of `BASE`, the recipe of the study's second edition, or of another trial: one change at a time, then
together. A trial that is changed after its first run gets a new name.

`FINAL` are the arms that are read on test, written before the first of them was trained:

- Caltech-101, 2,500 training images, three trainings each. All have the recipe's options, its teacher included
  (`teacher` of the same seed, which is no arm). Five were wanted; all arms of a seed take two core-hours.
- Arms and teacher are trained and recorded in bfloat16, as is the grid of images: what the recipe's `auto` is on a CPU
  with instructions for it, and there about twice as fast (rows `teacher` and `single` of seed 0: 410 and 875 seconds of
  training, one core each, other work beside them).
- Thresholds, budgets and compute as in the trials: confidence, fitted on calibration, shares of the plain ViT at 98
  pixels. Test is read once per run, when it is finished, and chooses nothing.
- Endpoints: DMPO less the full model on 30, 40 and 50 %; less naive exits there, and at every exit; less each model of
  one exit on a budget of its compute. The aim: the interval (`dx.analysis.seeds_interval`, trainings × images, 95 %)
  lies above −3 points on 30 % and above −1 on 40 %, against the full model; above 0 against the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import dmpo_explore as dx
from _photos.protocol import RECIPE
from _photos.trials import BASE as DEFAULTS
from _photos.trials import HEAD
from _study.grids import NAIVE, change
from _third.protocol import Comparison

DATA: dict[str, dict[str, Any]] = {  # name → fields of its `DataConfig`
    "caltech101": {"name": "caltech101"},
    "grocery": {"name": "grocery", "train_size": None},
}
BASE = change(
    DEFAULTS, **RECIPE, precision="no"
)  # CPUs without instructions for bfloat16 take three times as long with it
FULL: dict[str, Any] = {"image_size": 98, "exits": 1}  # a full model with a linear head
LIGHT, STRONG = {"augment": "light"}, {"augment": "strong"}
MILD: dict[str, Any] = LIGHT | {"crop_scale": 0.7}
LONG: dict[str, Any] = {"epochs": 24}
GENTLE: dict[str, Any] = {"tuning_lr": 5e-4}


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        question: what it answers. changes: fields of `BASE` by name. teacher: the trial that teaches it.
        data: names of the data sets that it is made on. seeds: of its runs.
        read: the split whose accuracy is given.
        rivals: trials of one exit; the row also has a budget of each one's compute.
    """

    question: str
    changes: dict[str, Any] = field(default_factory=dict)
    teacher: str = ""
    reference: int = DEFAULTS.model.image_size  # pixels: the plain backbone at this size is 100 % of the compute
    data: tuple[str, ...] = tuple(DATA)
    seeds: tuple[int, ...] = (0, 1)
    read: str = "val"
    rivals: tuple[str, ...] = ()

    def config(self, data: str, seed: int) -> dx.Config:
        """Its config; ``seed`` is that of data and training alike."""
        taught = {"teacher": run_name(self.teacher, seed)} if self.teacher else {}
        return change(BASE, seed=seed, **DATA[data] | self.changes | taught)


TRIALS: dict[str, Trial] = {
    "single-light": Trial("the full model, augmented", FULL | LIGHT | {"epochs": 12}),
    "single": Trial("the full model of the second edition: the teacher", FULL),
    "taught": Trial("a teacher, the augmentation of the second edition (mirroring)", {}, "single"),
    "base": Trial("the recipe of the second edition"),
    "taught-crop-70": Trial("a teacher on mild crops", MILD, "single"),
    "taught-24": Trial("a patient teacher: four times the epochs", LONG, "single"),
    "taught-crop-70-24": Trial("both", MILD | LONG, "single"),
    "taught-crop-70-24-gentle": Trial("both, the trunk at a quarter of the rate", MILD | LONG | GENTLE, "single"),
    "crop-70-24-gentle": Trial("the same without a teacher", MILD | LONG | GENTLE),
    "single-crop-70-24-gentle": Trial("the full model with these options", FULL | MILD | LONG | GENTLE),
    "taught-by-patient": Trial("a teacher with these options", MILD | LONG | GENTLE, "single-crop-70-24-gentle"),
    "crop-70": Trial("mild crops alone", MILD),
    "taught-light-24": Trial("wide crops, patient", LIGHT | LONG, "single"),
    "taught-strong-24": Trial("stronger views, patient", STRONG | LONG, "single"),
    "crop-70-24": Trial("mild crops alone, four times the epochs", MILD | LONG),
    "gentle": Trial("the trunk at a quarter of the rate", GENTLE),
    "full-rate": Trial("a second phase that happens", {"schedule_rate": "full"}),
    "by-depth": Trial("loss weights by depth", {"schedule": "linear-by-depth"}),
    "uniform": Trial("no phases", {"schedule": "uniform"}),
    "earlier": Trial("exits that read earlier answers", {"earlier_exits": True}),
}
FAST: dict[str, Any] = {"precision": "bf16"}
IMAGES, EPOCHS = (600, 1500, 4000), (6, 24)  # of the grid of images, epochs and teacher
for size in IMAGES:
    sized: dict[str, dict[str, Any]] = {"": {}, "-taught": {"teacher": f"grid-{size}"}}
    on: dict[str, Any] = {"data": ("caltech101",), "seeds": (0,)}
    TRIALS[f"grid-{size}"] = Trial(f"a teacher of {size:,} images", FULL | FAST | {"train_size": size}, **on)
    for epochs, (end, teacher) in product(EPOCHS, sized.items()):
        options = MILD | GENTLE | FAST | {"epochs": epochs, "train_size": size}
        TRIALS[f"grid-{size}-{epochs}{end}"] = Trial("images, epochs and teacher", options, **teacher, **on)

OF_TEST: dict[str, Any] = {"data": ("caltech101",), "seeds": (0, 1, 2)}
TRIALS["teacher"] = Trial("what teaches the arms on test", FULL | FAST, **OF_TEST)
TEST: dict[str, Any] = OF_TEST | {"teacher": "teacher", "read": "test"}
CHOSEN = MILD | LONG | GENTLE | FAST
FINAL: dict[str, Trial] = {
    "dmpo": Trial("the recipe", CHOSEN, rivals=("static-6", "small-70"), **TEST),
    "full": Trial("the full model", FULL | CHOSEN, **TEST),
    "naive": Trial("naive exits", NAIVE | {"read": "both"} | CHOSEN, **TEST),
    "static-6": Trial("six blocks", HEAD | {"exits": (6,)} | CHOSEN, **TEST),
    "small-70": Trial("70 pixels", HEAD | {"exits": 1, "image_size": 70} | CHOSEN, **TEST),
}
TRIALS |= FINAL
COMPARED = tuple(Comparison(f"the recipe and {FINAL[arm].question}", "dmpo", arm) for arm in FINAL if arm != "dmpo")


def run_name(trial: str, seed: int) -> str:
    """The name of a trial's run."""
    return f"{trial}-s{seed}"


def wanted(names: Iterable[str]) -> list[str]:
    """The trials with their teachers, each teacher first."""
    found = dict[str, None]()
    for name in names:
        found |= dict.fromkeys((TRIALS[name].teacher, name))
    return [name for name in found if name]

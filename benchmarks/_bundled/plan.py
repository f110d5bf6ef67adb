"""Plan of the bundled runs: how each is trained, and what is kept of it.

In: nothing. Out: `PLAN`, name → `Planned`. The runs on groceries are the recipe ``photographs`` with one change each,
trained on all training images; they keep their logits, since temperatures are shown on them. ``demo-single-24`` is the
full model with the recipe's crops, epochs and rates, a trial of `_photos.recipe` (its run, renamed). Those on
Fashion-MNIST and Caltech-101 were made by earlier versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dmpo_explore as dx
from _photos.recipe import TRIALS
from _photos.trials import SHIPPED as CALTECH
from _study.grids import CNN, GRIDS, NAIVE, SHIPPED, change
from dmpo_explore.training.part_options import own_teacher, with_recipe


@dataclass(frozen=True)
class Planned:
    """One bundled run.

    Args:
        config: that it is trained with. logits: whether its records keep them, in float16.
        embedding: whether the record of test keeps the map of its images.
        other_data: a further data set, whose calibration and test images are recorded too.
        left_out: files that are not shipped, to keep the package small.
    """

    config: dx.Config
    logits: bool = True
    embedding: bool = False
    other_data: str = ""
    left_out: tuple[str, ...] = ()


BASE = dx.Config(dx.DataConfig("grocery"), training=dx.TrainingConfig(precision="no"))
RECIPE = with_recipe("photographs", BASE)
NAIVE_EXITS: dict[str, Any] = NAIVE | {"read": "both", "equilibrium": True}
CNN_PARTS: dict[str, Any] = {
    field: getattr(CNN.model, field)
    for field in ("backbone", "exits", "tuning", "rank", "bypass_width", "channels", "normalisation")
} | {field: getattr(CNN.training, field) for field in ("tuning_lr", "predictor_lr", "precision")}

SMALL = change(RECIPE, **CNN_PARTS)

PLAN: dict[str, Planned] = {  # in this order: full models teach the others
    "demo-single": Planned(own_teacher(RECIPE)),
    "demo": Planned(change(RECIPE, teacher="demo-single"), embedding=True),
    "demo-naive": Planned(change(RECIPE, teacher="demo-single", **NAIVE_EXITS)),
    "demo-single-24": Planned(
        TRIALS["single-crop-70-24-gentle"].config("grocery", 0), left_out=(dx.runs.WEIGHTS,)
    ),  # to compare with
    "demo-cnn-single": Planned(
        change(own_teacher(SMALL), tuning_lr=CNN.training.tuning_lr, predictor_lr=CNN.training.predictor_lr)
    ),
    "demo-cnn": Planned(change(SMALL, teacher="demo-cnn-single")),
    "shops": Planned(RECIPE.updated({"data.name": "grocery-same-shops"}), other_data="grocery-shops"),
    **{
        name: Planned(
            change(GRIDS["shipped"][arm], seed=0),
            logits=name == "fashion",
            embedding=name == "fashion",
            left_out=("records/val/logits.npy",),
        )
        for name, arm in SHIPPED.items()
    },
    "caltech": Planned(
        CALTECH, logits=False, embedding=True, left_out=(dx.runs.WEIGHTS,)
    ),  # its images are in no package
}


def planned(config: dx.Config) -> Planned:
    """What is kept of a run with this config; of one that is not planned, neither logits nor embedding."""
    return next((one for one in PLAN.values() if one.config == config), Planned(config, logits=False))

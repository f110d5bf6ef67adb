"""Protocol of the study's third edition, written before its runs: seven data sets, orders of the loss weights, parts.

In: nothing. Out: `PARTS_OF_STUDY`, letter → arms, seeds and data sets; `plan`, all runs in order; `COMPARISONS`;
`register`, which adds the data sets and the orders of loss weights to the library's joints. An arm that is changed
after its first run gets a new name: a result keeps its config, and one made with another is refused.

Fixed beforehand:

- Data: `_third.data`, 1,000 training images a set. The draw is the same in all trainings; a seed initialises the parts,
  orders the batches and draws the crops.
- Recipe: what trials chose on val of Caltech-101 and groceries (`scripts/bench recipe` at 6a6e907c), without its
  teacher, at 84 pixels for 6 epochs, which no trial chose: a first form of this protocol, with 12 epochs and with five
  seeds of parts b and c, would have taken 75 core-hours, and was changed before its first row. EfficientNet-Lite0 has
  the options of the bundled CNN at 96 pixels. Every arm has the same options but for what its name says; that they had
  no search of their own stands beside each number.
- What is read when. Val chooses the epoch that is kept (largest area). Calibration fits thresholds (confidence, one
  threshold, the best accuracy at no more than a given share of compute). Test is read once per run, when the run is
  finished, and chooses nothing.
- Compute. GFLOPs as deployed, everything that ran counted, as a share of the plain backbone with a linear predictor at
  the same pixels.
- Endpoints: accuracy of every exit, the mean of the early exits, the last exit, and accuracy at 20, 30, 40, 50 and 70 %
  of the compute. An arm whose exit 1 uses more than a budget has no value there. Against a model of one exit the last
  exit is compared, and for static nets also the accuracy at their own compute. For `scripts/bench forecast` alone, and
  added before the first row of DMPO: what the threshold uses that loses at most a point on calibration. Added when 66
  rows were there, for all sets and budgets alike: accuracy at a budget against the single model, which has one answer
  and uses all of the compute. Added when the released form had two trainings: its comparison with naive exits;
  when all had ended: those of six blocks with the single model, and of DMPO with naive exits that have second-order
  predictors.
- Intervals: `dx.analysis.seeds_interval`, 95 %, trainings × images, of the paired difference. A difference is called
  larger or smaller if its interval lies on one side of 0; with fewer seeds than planned it is preliminary. Nothing is
  corrected for the number of comparisons: about one interval in twenty misses by chance alone, and the table has
  hundreds. Added when all had ended: ``p``, at whose level the interval just reaches 0, and ``p_adjusted``, by
  Benjamini-Hochberg over the whole table.
- Order of the runs: parts a, b, c, d; in each, a seed of every arm and set before the next seed of any. Part c went
  before the second and third seed of b. More seeds may be added, to all arms of a part alike. A null result is a
  result: no arm is added because of another one's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import dmpo_explore as dx
from _common.comparisons import Comparison
from _common.study import CNN, NAIVE, change
from _third.data import SETS
from dmpo_explore.data import DATASETS
from dmpo_explore.training.schedules import SCHEDULES, Depths, Weights, linear

EPOCHS = 6
BASE = dx.Config(
    dx.DataConfig("third-caltech101"),
    dx.ModelConfig(image_size=84, exits=(3, 4, 5, 6, 8, 12)),
    dx.TrainingConfig(
        epochs=EPOCHS, tuning_lr=5e-4, label_smoothing=0.1, augment="light", crop_scale=0.7, precision="no",
        validation_size=500,
    ),
)  # fmt: skip
SMALL = change(
    dx.Config(BASE.data, CNN.model, CNN.training), image_size=96, resize=BASE.model.resize, epochs=EPOCHS,
    label_smoothing=0.1, augment="light", crop_scale=0.7, validation_size=500,
)  # fmt: skip
BUDGETS = {f"{share} %": share / 100 for share in (20, 30, 40, 50, 70)}
DROP = 0.01
HEAD: dict[str, Any] = {"last_bypass": BASE.model.bypass, "last_predictor": BASE.model.predictor}
SPREAD = NAIVE | {"read": "both"}
RELEASED: dict[str, Any] = {  # parts of the authors' script; rates, steps, and what a `mlp` adds to are ours
    "predictor": "moment", "bypass": "mlp", "train_norm": False, "tuning": "lora", "rank": 8, "dropout": 0.2,
    "coupling": "sigmoid", "schedule": "linear",
}  # fmt: skip

MAIN: dict[str, dict[str, Any]] = {
    "dmpo": {},
    "single": {"exits": 1},
    "naive": SPREAD,
    "static-6": HEAD | {"exits": (6,)},
}
ORDERS: dict[str, dict[str, Any]] = {
    "dmpo-uniform": {"schedule": "uniform"},
    "dmpo-constant": {"schedule": "third-constant"},
    "dmpo-reversed": {"schedule": "third-reversed"},
    "dmpo-by-depth": {"schedule": "linear-by-depth"},
    "dmpo-full-rate": {"schedule_rate": "full"},
}
LEFT_OUT_OR_ADDED: dict[str, dict[str, Any]] = {
    "dmpo-no-bypass": {"bypass": "none"},
    "dmpo-no-second-order": {"predictor": "linear"},
    "naive-bypass": SPREAD | {"bypass": BASE.model.bypass},
    "naive-second-order": NAIVE | {"predictor": BASE.model.predictor},
    "naive-schedule": SPREAD | {"schedule": BASE.training.schedule},
}
OTHERS: dict[str, dict[str, Any]] = {
    "dmpo-released": RELEASED,
    "naive-mixed": SPREAD | {"schedule": "mixed"},
    "naive-combined": SPREAD | {"earlier_exits": True},
}
SMALL_ARMS: dict[str, dict[str, Any]] = {"dmpo": {}, "single": {"exits": 1}, "naive": NAIVE | {"read": "mean"}}
DEEP = ("birds100", "caltech101")
PARTS = {  # of DMPO: a part → the arm without it, the arm with it alone
    "second-order predictors": ("dmpo-no-second-order", "naive-second-order"),
    "bypass": ("dmpo-no-bypass", "naive-bypass"),
    "two-phase loss weights": ("dmpo-uniform", "naive-schedule"),
}


@dataclass(frozen=True)
class Part:
    """Some arms on some data sets.

    Args:
        base: whose fields the arms change. arms: name → changes.
        family: of the backbone, where it is not the ViT.
    """

    base: dx.Config
    arms: dict[str, dict[str, Any]]
    sets: tuple[str, ...]
    seeds: int
    family: str = ""

    def config(self, data: str, arm: str, seed: int) -> dx.Config:
        """Of one run."""
        return change(self.base, name=f"third-{data}", seed=seed, **self.arms[arm])

    @property
    def suffix(self) -> str:
        """Of the folders of its results."""
        return f"-{self.family}" if self.family else ""

    @property
    def reference(self) -> int:
        """Pixels of the plain backbone whose compute is 100 %."""
        return self.base.model.image_size


PARTS_OF_STUDY = {
    "a": Part(BASE, MAIN, tuple(SETS), 3),
    "a-cnn": Part(SMALL, SMALL_ARMS, ("caltech101", "grocery"), 3, family="cnn"),
    "b": Part(BASE, MAIN | ORDERS, DEEP, 3),
    "c": Part(BASE, LEFT_OUT_OR_ADDED, DEEP, 3),
    "d": Part(BASE, OTHERS, DEEP, 3),
}


WHOLE = (
    Comparison("DMPO and naive exits", "dmpo", "naive"),
    Comparison("DMPO and a single model", "dmpo", "single"),
    Comparison("naive exits and a single model", "naive", "single"),
    Comparison("DMPO and a static net of six blocks", "dmpo", "static-6"),
    Comparison("a static net of six blocks and a single model", "static-6", "single"),
)
PARTED = (
    *(Comparison(f"{part}, added", alone, "naive") for part, (_, alone) in PARTS.items()),
    Comparison("bypass and two-phase weights, added to second order", "dmpo", "naive-second-order"),
    *(Comparison(f"{part}, left out", "dmpo", without) for part, (without, _) in PARTS.items()),
)
ORDERED = (
    Comparison("order: constant", "dmpo", "dmpo-constant"),
    Comparison("order: reversed", "dmpo", "dmpo-reversed"),
    Comparison("order: by depth", "dmpo", "dmpo-by-depth"),
    Comparison("rate: full in phase two", "dmpo", "dmpo-full-rate"),
)
OTHER = (
    Comparison("DMPO and the authors' parts in our training", "dmpo", "dmpo-released"),
    Comparison("the authors' parts in our training and naive exits", "dmpo-released", "naive"),
    Comparison("mixed training and naive exits", "naive-mixed", "naive"),
    Comparison("combined answers and naive exits", "naive-combined", "naive"),
)
COMPARISONS = (*WHOLE, *PARTED, *ORDERED, *OTHER)


def plan(parts: tuple[str, ...]) -> list[tuple[str, str, str, int]]:
    """(part, set, arm, seed) in the order of the runs; a run that two parts share is in the first alone."""
    found: dict[dx.Config, tuple[str, str, str, int]] = {}
    for name in parts:
        part = PARTS_OF_STUDY[name]
        for seed in range(part.seeds):
            for arm in part.arms:
                for data in part.sets:
                    found.setdefault(part.config(data, arm, seed), (name, data, arm, seed))
    return [*found.values()]


def planned(folder: str, comparison: Comparison) -> int:
    """Trainings of each arm of a comparison, in a folder of results: a data set with the backbone's family."""
    parts = [part for part in PARTS_OF_STUDY.values() if folder in (f"{name}{part.suffix}" for name in part.sets)]
    arms = (comparison.arm, comparison.other)
    return min(max((part.seeds for part in parts if arm in part.arms), default=0) for arm in arms)


# -- orders of the loss weights: what the cross-over of `linear` does beside its mean --

WARM_UP = 0.5  # epochs, as a training's default


def rate(epoch: int, epochs: int) -> float:
    """Mean learning rate of an epoch over its peak: a cosine to 0 after the warm-up."""
    places = epoch + (np.arange(100) + 0.5) / 100
    falling = (1 + np.cos(np.pi * (places - WARM_UP) / (epochs - WARM_UP))) / 2
    return float(np.where(places < WARM_UP, places / WARM_UP, falling).mean())


def constant(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """`linear`'s mean over all epochs, each weighted by its learning rate, at every epoch."""
    weights = np.stack([linear(e, epochs, depths) for e in range(epochs)])
    mean: Weights = np.average(weights, axis=0, weights=[rate(e, epochs) for e in range(epochs)])
    return mean


def backwards(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """`linear` from its last epoch to its first: the early exits lead, then the deep ones."""
    return linear(epochs - 1 - epoch, epochs, depths)


def register() -> None:
    """Let configs name the data sets, ``third-NAME``, and the orders."""
    DATASETS.update({f"third-{name}": source for name, source in SETS.items()})
    SCHEDULES.update({"third-constant": constant, "third-reversed": backwards})

"""Protocol of the controls, written before their first row: equal weights, fair rivals, other draws.

In: nothing. Out: `EXPERIMENTS`; `plan`, all jobs in order; `comparisons`, what is compared. An arm that is changed
after its first run gets a new name.

The questions
-------------
- **E1, equal weights.** Is it second order and the bypass that help, or the number of weights? Exits with a linear, a
  two-layer, an attention-pooling and a covariance predictor, each without and with the bypass, in one regime: 1,000
  training images, 6 epochs (96 steps), 84 pixels, no teacher, DMPO's loss weights (`linear`) in every arm. An early
  exit of `two-layers`, `attention-pooling` and `covariance-wide`, with its bypass if it has one, has as many trainable
  weights as DMPO's (`_controls.predictors`; within 3 %, which a test counts). `covariance-bypass` is DMPO. The arms
  `linear`, `linear-bypass` and `covariance` are smaller and say what a part adds. Birds, then Caltech-101.
- **E2, fair rivals, long enough.** Does anything of DMPO beyond the covariance remain once training is long and
  taught? Naive exits with covariance predictors, naive exits with two layers (both: no bypass, equal loss weights) and
  DMPO, all with the recipe for photographs (24 epochs, 384 steps), and of each seed one teacher for all: the recipe's
  own, the full model at 98 pixels. The trunk's rate is 5e-4 or 2e-3, for each arm the better one on val of its first
  training. Groceries.
- **E3, other draws.** How much of a difference is the luck of 1,000 images? Three draws of training, val and
  calibration images, test as it is, each with a training seed of its own; DMPO, naive exits with covariance
  predictors, the full model; Caltech-101 in the regime of E1 (naive exits: equal loss weights).

Fixed beforehand
----------------
- Data: `_third.data`; in E1 and E2 the draw is the same in all trainings, and a seed initialises the parts, orders the
  batches and draws the crops. Options: the library's recipe `photographs`; E1 and E3 have 6 epochs of it and no
  teacher. In E1 and E3 no arm had a search of its own; the trunk's rate there, 5e-4, was chosen beside DMPO.
- What is read when. Val chooses the epoch that is kept (largest area) and in E2 the rate (largest mean of accuracy at
  20, 30, 40 and 50 % of the compute); no training is stopped early. Calibration fits thresholds (confidence, one
  threshold, the best accuracy at no more than a given share of compute). Test is read once per run, when the run is
  finished, and chooses nothing; the rate that was not chosen is never read on test.
- Compute: GFLOPs as deployed, everything that ran counted, as a share of the plain backbone with a linear predictor:
  at 84 pixels in E1 and E3, at the teacher's 98 in E2.
- Endpoints: accuracy of every exit, of the last exit, and at 20, 30, 40 and 50 % of the compute. An arm whose exit 1
  uses more than a budget has no value there: in E1 and E3 none has one at 20 %. Against a model of one exit, its one
  answer is compared with the budgets and the last exit.
- Comparisons: those of `EXPERIMENTS` at all endpoints that both have. E1: 14 pairs at 9 endpoints on 2 sets, 252
  intervals; E2: 3 pairs at 10 endpoints and 3 with the teacher at 5, 45; E3: one pair at 9 and 2 with the full model
  at 4, 17. In all 314. Of these 12 + 4 + 2 are the main ones, at 30 and 50 %: E1, DMPO less each of the other arms of
  equal weights without a bypass (`MAIN`); E2, DMPO less either rival; E3, DMPO less naive exits with covariance.
- Intervals: `dx.analysis.seeds_interval`, 95 %, trainings × images, of the paired difference; a difference is called
  larger or smaller if its interval lies on one side of 0. With two trainings or fewer it is preliminary. Beside them:
  how many of the main ones stay after Holm, of all after Benjamini-Hochberg; p as if half an interval were 1.96
  standard errors.
- Compute that it takes: at most 20 core-hours. `scripts/bench controls --pilot` at 5ad9b37d, three steps of every arm
  on one core of two that others used too: 56 to 76 ms an image of training at 84 pixels, 0.14 to 0.18 core-hours a
  training of 6 epochs, 0.61 of 24, 0.22 a teacher. E1: 54 trainings, 8.3 core-hours; E2: 12 trainings, 3 teachers and
  their answers, 8.3; E3: 9 trainings, 1.6. In all 18.2. What was cut so that it fits: E2 has 1,000 training images,
  not all groceries; a rate is chosen by one training of each, not three; E2 has neither attention pooling nor a full
  model with the recipe's crops and epochs; E3 has one set. Should it take longer after all, what comes last is
  missing: E3's draws.
- A null result is a result: no arm is added because of another one's result. A row whose training diverged stays out
  and is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import dmpo_explore as dx
from _third.data import SETS
from dmpo_explore.data import DATASETS
from dmpo_explore.data.image_set import ImageFiles, Pool
from dmpo_explore.data.names import Source
from dmpo_explore.data.splits import SPLITS, stratified_rows
from dmpo_explore.training.part_options import own_teacher, without_teacher

Changes = dict[str, Any]
RECIPE = dx.training.with_recipe(
    "photographs", dx.Config(training=dx.TrainingConfig(precision="no", validation_size=500))
)
SHORT = without_teacher(RECIPE).updated({"training.epochs": 6})
BUDGETS = {f"{share} %": share / 100 for share in (20, 30, 40, 50)}
TEACHER = "teacher"
NAIVE: Changes = {"model.bypass": "none", "training.schedule": "uniform"}
PREDICTORS = ("linear", "two-layers", "attention-pooling", "covariance")
EQUAL = ("two-layers", "attention-pooling", "covariance-wide")  # as large as DMPO's exits, without a bypass
ARMS: dict[str, Changes] = {
    f"{name}{end}": {"model.predictor": name, "model.bypass": bypass}
    for name in PREDICTORS
    for end, bypass in (("", "none"), ("-bypass", "conv"))
} | {"covariance-wide": {"model.predictor": "covariance-wide", "model.bypass": "none"}}
DMPO = "covariance-bypass"
MAIN = tuple((DMPO, other) for other in EQUAL)


@dataclass(frozen=True)
class Experiment:
    """Some arms on some data sets.

    Args:
        base: whose options the arms change. arms: name → changes. sets: name → data set, which may depend on the seed.
        reference: pixels of the plain backbone whose compute is 100 %. compared: pairs of arms.
        full: the arm of one exit, compared with by budgets. rates: of the trunk, of which val chooses.
    """

    base: dx.Config
    arms: dict[str, Changes]
    sets: dict[str, str]
    seeds: tuple[int, ...]
    reference: int
    compared: tuple[tuple[str, str], ...]
    full: str = ""
    rates: tuple[float, ...] = field(default=())

    def config(self, data: str, arm: str, seed: int, rate: float | None = None) -> dx.Config:
        """Of one training."""
        config = self.base.updated({"data.name": self.sets[data].format(seed=seed), "training.seed": seed})
        if arm == TEACHER:
            return own_teacher(config)
        taught = {"training.teacher": f"{TEACHER}-s{seed}", "training.tuning_lr": rate} if self.rates else {}
        return config.updated(self.arms[arm] | taught)


EXPERIMENTS = {
    "E1": Experiment(
        SHORT, ARMS, {"birds100": "third-birds100", "caltech101": "third-caltech101"}, (0, 1, 2), 84,
        compared=(
            *MAIN, (DMPO, "two-layers-bypass"), (DMPO, "attention-pooling-bypass"),
            ("covariance-wide", "two-layers"), ("covariance-wide", "attention-pooling"),
            *((f"{name}-bypass", name) for name in PREDICTORS), *((name, "linear") for name in PREDICTORS[1:]),
        ),
    ),
    "E2": Experiment(
        RECIPE,
        {
            "naive-covariance": NAIVE,
            "naive-two-layers": NAIVE | {"model.predictor": "two-layers"},
            "dmpo": {},
        },
        {"grocery": "third-grocery"}, (0, 1, 2), 98,
        compared=(
            ("dmpo", "naive-covariance"), ("dmpo", "naive-two-layers"), ("naive-covariance", "naive-two-layers"),
            ("dmpo", TEACHER), ("naive-covariance", TEACHER), ("naive-two-layers", TEACHER),
        ),
        full=TEACHER, rates=(5e-4, 2e-3),
    ),
    "E3": Experiment(
        SHORT, {"dmpo": {}, "naive-covariance": NAIVE, "full": {"model.exits": 1}},
        {"caltech101": "controls-caltech101-{seed}"}, (1, 2, 3), 84,
        compared=(("dmpo", "naive-covariance"), ("dmpo", "full"), ("naive-covariance", "full")), full="full",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One row: a training, or one that is there already, and the split whose accuracy is given.

    ``rate``: of the trunk, where val chooses it; None: the chosen one, or the only one.
    """

    experiment: str
    data: str
    arm: str
    seed: int
    rate: float | None = None
    read: str = "test"

    @property
    def name(self) -> str:
        """Of its row."""
        rate = "" if self.rate is None else f"-{self.rate:g}"
        return f"{self.experiment}-{self.data}-{self.arm}{rate}-s{self.seed}"


def plan(names: tuple[str, ...] = tuple(EXPERIMENTS), experiments: dict[str, Experiment] = EXPERIMENTS) -> list[Job]:
    """All jobs in order: a seed of every arm before the next seed; where val chooses, its trials before the rest."""
    jobs: list[Job] = []
    for name in names:
        found = experiments[name]
        for data in found.sets:
            for seed in found.seeds:
                jobs += [Job(name, data, TEACHER, seed)] if found.rates else []
                for arm in found.arms:
                    if seed == found.seeds[0]:
                        jobs += [Job(name, data, arm, seed, rate, "val") for rate in found.rates]
                    jobs.append(Job(name, data, arm, seed))
    return jobs


def comparisons(experiment: Experiment, n_exits: int = 6) -> list[tuple[str, str, str, str]]:
    """(arm, other, endpoint of the arm, endpoint of the other) on each data set."""
    exits = [f"exit {k + 1}" for k in range(n_exits)]
    at = [*exits, *(name for name in BUDGETS if experiment.reference > 84 or name != "20 %")]
    return [
        (arm, other, end, exits[0] if other == experiment.full else end)
        for arm, other in experiment.compared
        for end in (at[n_exits - 1 :] if other == experiment.full else at)
    ]


def redrawn(seed: int) -> Source:
    """Caltech-101 with the test images of the third study; the others drawn anew, as many in each split."""
    whole, known = DATASETS["caltech101"], SETS["caltech101"]

    def read(split: str, root: Any) -> Pool:
        pool = known.read(split, root)
        if split == "test":
            return pool
        pools = [whole.read(name, root) for name in SPLITS if name != "test"]
        paths = [path for one in pools if isinstance(one.pixels, ImageFiles) for path in one.pixels.paths]
        labels = np.concatenate([one.labels for one in pools])
        rows = {"train": stratified_rows(labels, len(known.read("train", root).labels), seed=seed, least=2)}
        rest = np.setdiff1d(np.arange(len(labels)), rows["train"])
        for name in ("calibration", "val"):
            drawn = stratified_rows(labels[rest], len(known.read(name, root).labels), seed=seed)
            rows[name], rest = rest[drawn], np.delete(rest, drawn)
        return Pool(ImageFiles([paths[row] for row in rows[split]]), labels[rows[split]], pool.class_names)

    return Source(known.title, known.licence, read, known.fetch, splits=SPLITS, rule=f"drawn anew with seed {seed}")


def register() -> None:
    """Let configs name the data sets."""
    DATASETS.update({f"controls-caltech101-{seed}": redrawn(seed) for seed in EXPERIMENTS["E3"].seeds})

"""Train, round and record the bundled runs: `scripts/bench bundled_runs [RUN …]`

In: `PLAN`. Out: ``dmpo_explore/runs/bundled/NAME`` for each run of it. Those on groceries are the recipe
``photographs`` with one change each, trained on all training images; they keep their logits, since temperatures are
shown on them. Those on Fashion-MNIST and Caltech-101, and ``demo-single-24``, were made by earlier versions. Trained
weights are rounded to float16, half the bytes, before recording, so that records are of the weights that are shipped.
An interrupted training resumes after its last epoch; a run that is bundled already, by its config, is kept. Names of
runs make or time these alone.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import dmpo_explore as dx
from _common.command import parser
from _common.study import CNN, NAIVE, Progress, change, train
from _common.timing import Arm, in_turn, machine
from _speed.arms import per_call
from dmpo_explore.analysis.tables import write_card_results
from dmpo_explore.runs.timings import TIMINGS
from dmpo_explore.training.part_options import own_teacher, with_own_teacher, with_recipe
from dmpo_explore.utils.files import atomic_folder, write_json

LEFT_OUT = ("checkpoint.pt", "manifest.csv")  # the splits of a known data set follow from its rule; labels are compared
BATCH, TIMED, ROUNDS = 64, 128, 3  # images of a call, images of a round, rounds of the timings
SHARES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8)  # of compute that are timed, between "all at exit 1" and "none early"


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
SINGLE_24 = change(  # the full model with the recipe's crops, epochs and rates
    own_teacher(RECIPE), calibration=True, epochs=24, augment="light", crop_scale=0.7, tuning_lr=5e-4,
    validation_size=250,
)  # fmt: skip
FASHION = dx.Config(
    dx.DataConfig("fashion-mnist", train_size=10_000, calibration=False),
    dx.ModelConfig(exits=(2, 4, 6, 8, 10, 12), tuning="lora-all", rank=8, normalisation="isqrt"),
    dx.TrainingConfig(epochs=4, precision="bf16"),
)
CALTECH = dx.Config(
    dx.DataConfig("caltech101", calibration=True),
    dx.ModelConfig(image_size=140, exits=(3, 4, 5, 6, 8, 12)),
    dx.TrainingConfig(epochs=4, validation_size=250, precision="bf16", label_smoothing=0.1),
)
LOGITS = ("records/val/logits.npy",)

PLAN: dict[str, Planned] = {  # in this order: full models teach the others
    "demo-single": Planned(own_teacher(RECIPE)),
    "demo": Planned(change(RECIPE, teacher="demo-single"), embedding=True),
    "demo-naive": Planned(change(RECIPE, teacher="demo-single", **NAIVE_EXITS)),
    "demo-single-24": Planned(SINGLE_24, left_out=(dx.runs.WEIGHTS,)),  # to compare with
    "demo-cnn-single": Planned(
        change(own_teacher(SMALL), tuning_lr=CNN.training.tuning_lr, predictor_lr=CNN.training.predictor_lr)
    ),
    "demo-cnn": Planned(change(SMALL, teacher="demo-cnn-single")),
    "shops": Planned(RECIPE.updated({"data.name": "grocery-same-shops"}), other_data="grocery-shops"),
    "fashion": Planned(FASHION, embedding=True, left_out=LOGITS),
    "fashion-naive": Planned(change(FASHION, **NAIVE_EXITS), logits=False, left_out=LOGITS),
    "fashion-single": Planned(change(FASHION, exits=1), logits=False, left_out=LOGITS),
    "caltech": Planned(
        CALTECH, logits=False, embedding=True, left_out=(dx.runs.WEIGHTS,)
    ),  # its images are in no package
}


def bundle(name: str, plan: Planned, root: Path, target: Path, progress: Progress) -> Path:
    """Train (or resume), round, record and copy one run; its folder in ``target``."""
    run = train(root / name, plan.config, progress)
    halve(run)
    others = [(split, plan.other_data) for split in ("calibration", "test") if plan.other_data]
    for split, data in [*((split, None) for split in ("val", "calibration", "test")), *others]:
        progress(f"{name}: recording {split}{f' of {data}' if data else ''}")
        how = {"keep_logits": plan.logits, "keep_features": plan.embedding and split == "test" and not data}
        dx.record_run(run, split, device="cpu", other_data=data, force=True, **how)
    (run.path / "records" / "test" / "features.npy").unlink(missing_ok=True)  # 50 times as large as its embedding
    (run.path / "records" / "test" / "indices.npy").unlink()  # all of them, in their order
    write_card_results(run)
    with atomic_folder(target / name) as folder:
        shutil.copytree(run.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for file in plan.left_out:
            (folder / file).unlink(missing_ok=True)
    return target / name


def has(config: dx.Config, folder: Path) -> bool:
    """Whether the run in ``folder`` was trained with this config."""
    return (folder / "config.json").is_file() and dx.load_run(folder).config == config


def time_run(run: dx.Run, progress: Progress, images: int = TIMED, rounds: int = ROUNDS) -> None:
    """Time both models on the first test images in a fixed random order, and write timings.json."""
    record = run.record("test")
    about = machine(torch.get_num_threads()) | {"nice": os.nice(0)}  # below 0: before other programs
    rows = np.random.default_rng(0).permutation(record.n_images)[:images]
    arms = dx.inference.open_arms(run, "test", run.model("cpu", merge=True), BATCH)
    batches = [arms.inputs(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    policies = timed_policies(record)
    todo: dict[str, Arm] = {
        f"{share:.4f}": per_call(lambda batch, policy=policy: arms.early(batch, policy), batches)  # type: ignore[misc]
        for share, policy in policies.items()
    }
    todo["full"] = per_call(arms.full, batches)
    found = in_turn(todo, rounds, progress)
    part = record.subset(rows)
    early = [
        {
            "threshold": policy.thresholds[0],
            "flops_fraction": float(f"{dx.apply(policy, part).summary()['flops_fraction']:.5g}"),
            **found[f"{share:.4f}"].summary(len(rows)),
        }
        for share, policy in policies.items()
    ]
    settings = {"policy": "confidence", "batch_size": BATCH, "precision": "no", "images": len(rows), "rounds": rounds}
    result = {"command": "scripts/bench bundled_runs --timings", "machine": about} | settings
    write_json(run.path / TIMINGS, result | {"full": found["full"].summary(len(rows)), "early": early})


def timed_policies(record: dx.ExitRecord) -> dict[float, dx.Policy]:
    """Mean FLOPs fraction → the confidence policy with that fraction on the record: both ends and `SHARES` between."""
    table = dx.trade_off(record, "confidence")
    shares, thresholds = table["flops_fraction"].to_numpy(), table["threshold"].to_numpy()
    inner = [int(np.abs(shares - share).argmin()) for share in SHARES if shares[0] < share < shares[-1]]
    chosen = sorted({0, *inner, len(table) - 1})
    return {float(shares[i]): dx.POLICIES["confidence"]((float(thresholds[i]),)) for i in chosen}


def halve(run: dx.Run) -> None:
    """Round the kept epoch's weights to float16; the checkpoint keeps them as they were.

    Raises:
        ValueError: a weight is too large for float16.
    """
    best = dx.training.read_checkpoint(run.path / "checkpoint.pt")["best"]
    state = {key: value.to(torch.float16) for key, value in best.items()}
    if too_large := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"run {run.name!r}: {too_large[0]} does not fit into float16")
    dx.runs.save_weights(run.path, state, run.config.model, run.class_names)


def main(arguments: list[str] | None = None) -> int:
    """Make every bundled run that is missing."""
    target = dx.runs.BUNDLED_RUNS
    given = parser(__doc__)
    given.add_argument("runs", nargs="*", metavar="RUN", help="only these")
    given.add_argument("--root", type=Path, default=Path("runs/bundle"), help="folder of the trainings")
    given.add_argument("--timings", action="store_true", help="time the bundled runs, train none")
    options = given.parse_args(arguments)
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root)  # where the library puts runs
    if foreign := sorted({*options.runs} - {*PLAN}):
        given.error(f"{foreign[0]} is no run here; there are {', '.join(PLAN)}")
    names = [name for name in PLAN if name in (options.runs or PLAN)]
    if options.timings:
        names = [name for name in names if dx.load_run(target / name).record("test").n_exits > 1]
    else:
        names = [name for name in names if not has(with_own_teacher(PLAN[name].config, name), target / name)]
    if options.list:
        print("\n".join(names) or "every run is there")
        return 0
    with tqdm(names, unit="run", disable=None) as bar:
        for name in bar:
            if options.timings:
                time_run(dx.load_run(target / name), bar.set_postfix_str)
            else:
                bundle(name, PLAN[name], options.root, target, bar.set_postfix_str)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One training of a study: train, record, measure, and keep its row; and what arms of several studies share.

In: a config, the folder of the run, the rows of the study. Out: the run folder (weights, records), and a row that is
committed: numbers, config and correctness by image (`_common.rows`). Thresholds are fitted on the calibration split.
FLOPs are counted as deployed, in GFLOPs and as a share of one reference: the plain backbone with a linear predictor at
one image size, whatever the arm's own.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

import dmpo_explore as dx
from _common.rows import Rows
from dmpo_explore.models.flops import config_flops
from dmpo_explore.training.part_options import with_own_teacher
from dmpo_explore.training.teacher import with_teacher_address

NAIVE: dict[str, Any] = {"bypass": "none", "predictor": "linear", "schedule": "uniform"}  # fields of naive exits
CNN = dx.Config(  # on Fashion-MNIST; `demo-cnn` has its parts
    dx.DataConfig("fashion-mnist", train_size=10_000, calibration=False),
    dx.ModelConfig(
        "tf_efficientnet_lite0", image_size=64, exits=(3, 5, 8, 11, 16), tuning="lora", rank=4, bypass_width=32,
        channels=32, normalisation="sqrt",
    ),
    dx.TrainingConfig(epochs=3, tuning_lr=5e-3, predictor_lr=5e-3, precision="no"),
)  # fmt: skip
Progress = Callable[[str], None]
Numbers = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


def change(config: dx.Config, **changes: Any) -> dx.Config:
    """``config`` with fields of its three parts changed by name (``seed`` is that of data and training alike).

    Raises:
        ValueError: a name that is no field.
    """
    named = {key: key.partition(".")[2] for key in dx.OPTIONS}
    if foreign := sorted(changes.keys() - {*named.values()}):
        raise ValueError(f"no field {foreign[0]!r} in a config")
    return config.updated({key: changes[name] for key, name in named.items() if name in changes})


def train(path: Path, config: dx.Config, progress: Progress) -> dx.Run:
    """The trained run in folder ``path``: made, gone on with, or there already.

    Raises:
        FloatingPointError: training diverged. ValueError: the folder holds a run of another config.
    """
    name, run = path.name, dx.load_run(path) if (path / "config.json").is_file() else None
    if run is not None and len(run.history()) >= config.training.epochs:
        config = with_own_teacher(config, name)
        if run.config not in (config, with_teacher_address(config)):
            raise ValueError(f"{path} was made with another config: remove it, or give the changed arm a new name")
        return run
    started = (path / "checkpoint.pt").is_file()

    def report(epoch: dx.EpochResult) -> None:
        progress(f"{name}: epoch {epoch.epoch}/{epoch.epochs}, area on val {epoch.area:.3f}")

    return dx.train(config, name, progress=report, resume=started, force=not started, device="cpu")


def make_row(
    path: Path,
    rows: Rows,
    data: str,
    config: dx.Config,
    progress: Progress,
    *,
    image_size: int,
    budgets: Mapping[str, float],
    rivals: Mapping[str, dx.Config],
    drop: float,
) -> None:
    """Train (or go on), record and measure the run in folder ``path``, and keep its row, which is not made again.

    Args:
        data: the row's set. image_size: of the reference. budgets: name → share of the reference's compute.
        rivals: name → config of models of one exit; the row also has a budget of each one's compute, by its name.
        drop: accuracy that may be lost on calibration, 0.01 is a point; the row has what that threshold uses and
            reaches.

    Raises:
        ValueError: the row or the run folder is of another config.
    """
    if rows.has(data, path.name, config):
        return
    start = time.perf_counter()
    run = train(path, config, progress)
    for split in ("calibration", "val", "test"):
        if split not in run.splits():
            progress(f"{run.name}: recording {split}")
            dx.record_run(run, split, precision=config.training.precision, keep_logits=False, device="cpu")
    seen = run.record("test")
    n_classes = len(seen.meta.class_names)
    plain = replace(config.model, image_size=image_size, exits=1)  # with a linear predictor
    reference = float(config_flops(plain, n_classes).reference)
    costs = {name: config_flops(rival.model, n_classes).cumulative[-1] / reference for name, rival in rivals.items()}
    row, correct = measure(run.record("calibration"), seen, reference, {**budgets, **costs})
    if seen.n_exits > 1:
        found = dx.apply(dx.fit_policy(run.record("calibration"), accuracy_drop=drop), seen).summary()
        share = found["flops_fraction"] * (seen.meta.reference_flops / reference)
        row |= {"accuracy_drop": found["accuracy"], "share_drop": share}
    chosen, _ = measure(run.record("calibration"), run.record("val"), reference, budgets)
    row |= {f"val_{name}": chosen[name] for name in chosen if name.startswith(("exit_", "accuracy_"))}
    history = run.history()
    row |= {"last_loss": float(history["loss"].iloc[-1]), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"train_seconds": float(history["seconds"].sum()), "seconds": time.perf_counter() - start}
    rows.add(data, path.name, config, {"read": "test", **row, "commit": commit()}, correct)


def measure(calibration: dx.ExitRecord, read: dx.ExitRecord, reference: float, budgets: Mapping[str, float]) -> Numbers:
    """A row's numbers and the correctness behind them: every exit and every budget, as shares of ``reference``."""
    row: dict[str, Any] = {}
    correct = {f"exit {k + 1}": read.correct[:, k] for k in range(read.n_exits)}
    for k, flops in enumerate(read.meta.flops):
        row |= {f"exit_{k + 1}": float(read.correct[:, k].mean()), f"gflops_{k + 1}": flops / 1e9}
    row |= {"full_share": read.meta.flops[-1] / reference, "oracle": float(read.correct.any(axis=1).mean())}
    for name, budget in budgets.items():
        if (outcome := at_budget(calibration, read, budget * reference)) is not None:
            found = outcome.summary()
            correct[name] = outcome.correct
            row[f"accuracy_{name}"] = found["accuracy"]
            row[f"share_{name}"] = found["flops_fraction"] * read.meta.reference_flops / reference
    return row, correct


def at_budget(calibration: dx.ExitRecord, read: dx.ExitRecord, flops: float) -> dx.Outcome | None:
    """Outcome of the threshold fitted to at most ``flops`` an image; None for one exit, or if exit 1 uses more."""
    if read.n_exits == 1 or calibration.meta.flops[0] > flops:
        return None
    allowed = min(flops, calibration.meta.flops[-1]) / calibration.meta.reference_flops
    return dx.apply(dx.fit_policy(calibration, flops=allowed), read)


def commit() -> str:
    """The commit of the code, with a plus sign where files differ from it; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty=+"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()

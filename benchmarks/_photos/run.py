"""One training: train, record, measure, and keep its row.

In: a config and two folders. Out: the run folder (weights, records), and a result folder that is committed:
``row.json``, ``config.json`` and ``outcomes.npz`` (correctness by image, for paired comparisons). Thresholds are
fitted on the calibration split. FLOPs are counted as deployed, in GFLOPs and as a share of one reference: the plain
backbone with a linear predictor at one image size, whatever the arm's own.
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
from _study.run import is_done, keep, train
from dmpo_explore.models.flops import config_flops
from dmpo_explore.utils.files import read_json

BUDGETS = {"30%": 0.3, "40%": 0.4, "50%": 0.5}  # name → share of the reference's compute
Progress = Callable[[str], None]
Numbers = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


def make_row(
    path: Path,
    result: Path,
    config: dx.Config,
    progress: Progress,
    *,
    image_size: int,
    read: str = "val",
    rivals: Mapping[str, dx.Config] | None = None,
    budgets: Mapping[str, float] = BUDGETS,
    drop: float | None = None,
) -> dict[str, Any]:
    """Train (or go on), record and measure; gives the row, which is not made again once ``result`` is there.

    Args:
        image_size: of the reference. read: the split whose accuracy is given.
        rivals: name → config of models of one exit; the row also has a budget of each one's compute, by its name.
        budgets: name → share of the reference's compute. drop: accuracy that may be lost on calibration, 0.01 is a
            point; then the row has what that threshold uses and reaches.

    Raises:
        ValueError: ``result`` or the run folder is of another config.
    """
    if is_done(result, config):
        return dict(read_json(result / "row.json"))
    start = time.perf_counter()
    run = train(path, config, progress, None, "cpu")
    for split in dict.fromkeys(("calibration", "val", read)):
        if split not in run.splits():
            progress(f"{run.name}: recording {split}")
            dx.record_run(run, split, precision=config.training.precision, keep_logits=False, device="cpu")
    seen = run.record(read)
    n_classes = len(seen.meta.class_names)
    reference = reference_flops(config, image_size, n_classes)
    costs = {name: config_flops(rival.model, n_classes).cumulative[-1] for name, rival in (rivals or {}).items()}
    shares = {**budgets, **{name: cost / reference for name, cost in costs.items()}}
    row, correct = measure(run.record("calibration"), seen, reference, shares)
    if drop is not None and seen.n_exits > 1:
        found = dx.apply(dx.fit_policy(run.record("calibration"), accuracy_drop=drop), seen).summary()
        share = found["flops_fraction"] * (seen.meta.reference_flops / reference)
        row |= {"accuracy_drop": found["accuracy"], "share_drop": share}
    if read != "val":
        chosen, _ = measure(run.record("calibration"), run.record("val"), reference, budgets)
        row |= {f"val_{name}": chosen[name] for name in chosen if name.startswith(("exit_", "accuracy_"))}
    history = run.history()
    row |= {"last_loss": float(history["loss"].iloc[-1]), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"train_seconds": float(history["seconds"].sum()), "seconds": time.perf_counter() - start}
    return keep(result, config, {"run": path.name, "read": read, **row, "commit": commit()}, correct)


def reference_flops(config: dx.Config, image_size: int, n_classes: int) -> float:
    """FLOPs of the plain backbone with a linear predictor at ``image_size`` pixels."""
    return float(config_flops(replace(config.model, image_size=image_size, exits=1), n_classes).reference)


def measure(
    calibration: dx.ExitRecord, read: dx.ExitRecord, reference: float, budgets: Mapping[str, float] = BUDGETS
) -> Numbers:
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
    """The commit of the code, with a plus sign where files differ from it; empty where git or its folder is missing."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()

"""One trial: train, record, measure on val, and keep its row.

In: a config and two folders. Out: the run folder (weights, records), and a result folder that is committed:
``row.json``, ``config.json`` and ``outcomes.npz`` (correctness by val image, for paired comparisons). Thresholds are
fitted on the calibration split and read on val; test is not read. FLOPs are those of the merged model, in GFLOPs and
as a share of one reference: the plain backbone with a linear predictor at `REFERENCE` pixels.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx
from _study.run import is_done, train
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.models.merging import merge
from dmpo_explore.utils.files import atomic_file, atomic_folder, read_json, write_json, write_text

REFERENCE = 98  # pixels
CLASSES = 101
BUDGETS = (0.3, 0.4, 0.5)
Progress = Callable[[str], None]


def run_trial(path: Path, result: Path, config: dx.Config, progress: Progress) -> dict[str, Any]:
    """Train (or go on), record and measure; gives the row, which is not made again once ``result`` is there."""
    if is_done(result, config):
        return dict(read_json(result / "row.json"))
    start = time.perf_counter()
    run = train(path, config, progress, None, "cpu")
    records = []
    for split in ("calibration", "val"):
        if split not in run.splits():
            progress(f"{run.name}: recording {split}")
            dx.record_run(run, split, precision="bf16", keep_logits=False, device="cpu")
        records.append(deployed(run.record(split), config))
    row, correct = measure(*records, reference_flops(config))
    history = run.history()
    row |= {"last_loss": float(history["loss"].iloc[-1]), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"train_seconds": float(history["seconds"].sum()), "seconds": time.perf_counter() - start}
    return keep(result, config, {"trial": path.name, **row, "commit": commit()}, correct)


def deployed(record: dx.ExitRecord, config: dx.Config) -> dx.ExitRecord:
    """The record with the FLOPs of the merged model."""
    model = build_model(config.model, len(record.meta.class_names)).eval()
    merge(model)
    cost = measure_flops(model, build_reference(config.model, len(record.meta.class_names)))
    return replace(record, meta=replace(record.meta, flops=tuple(map(float, cost.cumulative))))


def reference_flops(config: dx.Config) -> float:
    """FLOPs of the plain backbone with a linear predictor at `REFERENCE` pixels."""
    reference = build_reference(replace(config.model, image_size=REFERENCE, exits=1), CLASSES)
    return float(measure_flops(reference, reference).reference)


def measure(
    calibration: dx.ExitRecord, val: dx.ExitRecord, reference: float
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """A row's numbers and the correctness behind them: every exit and every budget, as shares of ``reference``."""
    row: dict[str, Any] = {}
    correct = {f"exit {k + 1}": val.correct[:, k] for k in range(val.n_exits)}
    for k, flops in enumerate(val.meta.flops):
        row |= {f"exit_{k + 1}": float(val.correct[:, k].mean()), f"gflops_{k + 1}": flops / 1e9}
    row["full_share"] = val.meta.flops[-1] / reference
    row["oracle"] = float(val.correct.any(axis=1).mean())
    for budget in BUDGETS:
        allowed = budget * reference / val.meta.reference_flops
        if val.n_exits > 1 and calibration.flops_fraction[0] <= allowed:
            outcome = dx.apply(dx.fit_policy(calibration, flops=allowed), val)
            found = outcome.summary()
            correct[f"{budget:.0%}"] = outcome.correct
            row[f"accuracy_{budget:.0%}"] = found["accuracy"]
            row[f"share_{budget:.0%}"] = found["flops_fraction"] * val.meta.reference_flops / reference
    return row, correct


def keep(result: Path, config: dx.Config, row: dict[str, Any], correct: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Write the result folder, whole or not at all; gives ``row`` back."""
    with atomic_folder(result) as folder:
        with atomic_file(folder / "outcomes.npz") as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **correct)  # type: ignore[arg-type]
        write_text(folder / "config.json", config.to_json() + "\n")
        write_json(folder / "row.json", row)
    return row


def commit() -> str:
    """The commit of the code, with a plus sign where files differ from it."""
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return found.stdout.strip()

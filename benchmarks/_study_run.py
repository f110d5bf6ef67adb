"""One run of the study: trained, recorded, measured, and what it leaves for good.

In: a config and two folders. Out: the run folder (weights, records), and a result folder that is committed:
``row.json`` (its numbers), ``outcomes.npz`` (on which test images it was right, for paired comparisons on any machine),
and for some arms ``gradients.csv`` and ``stages.csv``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from _evidence import GradientLog, stage_table
from grids import BUDGETS, REPORTED

import dmpo_explore as dx
from dmpo_explore.calibration import calibration_error
from dmpo_explore.files import atomic_file, atomic_folder, read_json, write_json
from dmpo_explore.metrics import area
from dmpo_explore.run import BUNDLED_RUNS, read_weights

Progress = Callable[[str], None]


def make_run(
    path: Path,
    result: Path,
    config: dx.Config,
    progress: Progress,
    *,
    precision: str = "bf16",
    splits: tuple[str, ...] = ("val", "test"),
    evidence: tuple[str, ...] = (),
    device: str = "auto",
) -> dict[str, Any]:
    """Train (or go on), record and measure the run in folder ``path``; its row, which ends up in folder ``result``.

    A bundled run of the very same config is measured instead of being trained again.

    Args:
        precision: of the records. splits: thresholds come from the first, numbers from the last.
        evidence: any of ``gradients`` (along training) and ``stages`` (afterwards).
    """
    name = path.name
    if (result / "row.json").is_file():
        return dict(read_json(result / "row.json"))
    tables: dict[str, pd.DataFrame] = {}
    run = bundled(config)
    if run is None:
        run = train_and_record(path, config, progress, precision, splits, "gradients" in evidence, device)
        if "gradients" in evidence:
            tables["gradients"] = pd.read_csv(path / "gradients.csv")
    if "stages" in evidence:
        progress(f"{name}: probing its stages")
        tables["stages"] = stage_table(run)
    val, read = (run.record(split) for split in (splits[0], splits[-1]))
    row = {"run": name, **measure(run, val, read)} | _card(device)
    with atomic_folder(result) as folder:
        with atomic_file(folder / "outcomes.npz") as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **outcomes(val, read))  # type: ignore[arg-type]
        for title, table in tables.items():
            table.to_csv(folder / f"{title}.csv", index=False, float_format="%.5g")
        write_json(folder / "row.json", row)
    return row


def bundled(config: dx.Config) -> dx.Run | None:
    """The bundled run that was made with ``config``."""
    runs = (dx.load_run(path) for path in sorted(BUNDLED_RUNS.iterdir()) if (path / "config.json").is_file())
    return next((run for run in runs if run.config == config), None)


def train_and_record(
    path: Path,
    config: dx.Config,
    progress: Progress,
    precision: str,
    splits: tuple[str, ...],
    gradients: bool,
    device: str,
) -> dx.Run:
    """The run in folder ``path``, as far as it is not there yet."""
    name, log = path.name, path / "gradients.csv"
    started = (path / "checkpoint.pt").is_file()
    run = dx.load_run(path) if (path / "config.json").is_file() else None
    if run is None or len(run.history()) < config.training.epochs:
        watch = GradientLog(config) if gradients else None
        before = pd.read_csv(log) if gradients and started and log.is_file() else pd.DataFrame()
        for epoch in dx.train(config, name, resume=started, force=not started, device=device, on_epoch=watch):
            progress(f"{name}: epoch {epoch.epoch}/{epoch.epochs}, area on val {epoch.area:.3f}")
            if watch:
                with atomic_file(log) as temporary:
                    pd.concat([before, watch.rows]).to_csv(temporary, index=False)
        run = dx.load_run(path)
    for split in splits:
        if split not in run.splits():
            progress(f"{name}: recording {split}")
            dx.record_run(run, split, precision=precision, keep_logits=False, device=device)
    return run


def _card(device: str) -> dict[str, str]:
    """The name of the GPU that a run was made on; nothing on a CPU."""
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return {"card": torch.cuda.get_device_name()} if on_gpu else {}


# -- its numbers --


def measure(run: dx.Run, val: dx.ExitRecord, test: dx.ExitRecord) -> dict[str, float]:
    """A run's numbers: thresholds from ``val``, read on ``test`` (or on val again), everything counted."""
    history = run.history()
    accuracy, errors = test.correct.mean(axis=0), calibration_error(test)
    row: dict[str, Any] = {
        "exits": test.n_exits,
        "train_size": run.config.data.train_size,
        "first_exit": accuracy[0],
        "last_exit": accuracy[-1],
        "full_flops": test.flops_fraction[-1],
        "parameters": sum(value.numel() for value in read_weights(run.path).values()),
        "train_seconds": history["seconds"].sum(),
        "kept_epoch": int(history["area"].idxmax()) + 1,
        "area": area(test),
    }
    for k in range(test.n_exits):
        row |= {f"exit_{k + 1}": accuracy[k], f"ece_{k + 1}": errors[k]}
    row |= {"score_val": score(val, val), "score": score(val, test)}
    for budget in REPORTED:
        if (exits := at_budget(val, test, budget)) is not None:
            result = dx.summarise(test, exits)
            row[f"accuracy_{budget:.0%}"], row[f"flops_{budget:.0%}"] = result["accuracy"], result["flops_fraction"]
    return {key: float(value) for key, value in row.items() if value is not None}


def outcomes(val: dx.ExitRecord, test: dx.ExitRecord) -> dict[str, npt.NDArray[Any]]:
    """What was right, image by image of test: (B,) bools at ``first exit``, ``last exit`` and each reported budget.

    ``score`` (B,) uint8 counts at how many of `BUDGETS` it was. What a run cannot meet is left out.
    """
    rows = np.arange(test.images)
    found: dict[str, npt.NDArray[Any]] = {"first exit": test.correct[:, 0], "last exit": test.correct[:, -1]}
    right = {b: test.correct[rows, e] for b in BUDGETS if (e := at_budget(val, test, b)) is not None}
    found |= {f"{100 * b:.0f} %": right[b] for b in REPORTED if b in right}
    if len(right) == len(BUDGETS):
        found["score"] = np.sum(list(right.values()), axis=0, dtype=np.uint8)
    return found


def score(val: dx.ExitRecord, test: dx.ExitRecord) -> float | None:
    """Accuracy averaged over `BUDGETS`; None for a run that has no choice or cannot meet them all."""
    counts = outcomes(val, test).get("score")
    return None if counts is None else float(counts.mean() / len(BUDGETS))


def at_budget(val: dx.ExitRecord, test: dx.ExitRecord, budget: float) -> npt.NDArray[np.int64] | None:
    """(B,) exits on ``test`` under the threshold that val chooses for ``budget``; None if even exit 1 costs more."""
    if test.n_exits == 1 or val.flops_fraction[0] > budget:
        return None
    return dx.fit_policy(val, flops=budget).exits(test)

"""One run of the study: train, record, measure, and keep its results.

In: a config and two folders. Out: the run folder (weights, records), and a result folder that is committed:
``row.json`` (its numbers), ``config.json``, ``outcomes.npz`` (correctness by test image, for paired comparisons on any
machine), and for some arms ``gradients.csv`` and ``stages.csv``. A diverged training keeps a row with ``diverged``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import dmpo_explore as dx
from _common.results import write_table
from _study.evidence import GradientLog, stage_table
from _study.grids import BUDGETS, REPORTED
from dmpo_explore.training.part_options import with_own_teacher
from dmpo_explore.training.teacher import with_teacher_address
from dmpo_explore.utils.files import atomic_file, atomic_folder, read_json, write_json, write_text

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
    device: str = "cpu",
) -> dict[str, Any]:
    """Train (or go on), record and measure the run in folder ``path``; its row, which ends up in folder ``result``.

    A bundled run of the very same config is measured instead of being trained again.

    Args:
        precision: of the records. splits: thresholds come from the first, numbers from the last.
        evidence: any of ``gradients`` (along training) and ``stages`` (afterwards).
    """
    name = path.name
    if is_done(result, config):
        return dict(read_json(result / "row.json"))
    tables: dict[str, pd.DataFrame] = {}
    card: dict[str, str] = {}
    run = bundled(config)
    if run is None:
        log = path.parent / f"{name}-gradients.csv"
        watch = GradientLog(config, log) if "gradients" in evidence else None
        try:
            run = train(path, config, progress, watch, device)
        except FloatingPointError as error:
            progress(f"{name}: {error}")
            return keep(result, config, {"run": name, "diverged": True})
        record(run, splits, precision, progress, device)
        card = _card(device)
        if watch:
            tables["gradients"] = pd.read_csv(log)
    if "stages" in evidence:
        progress(f"{name}: probing its stages")
        tables["stages"] = stage_table(run)
    val, read = (run.record(split) for split in (splits[0], splits[-1]))
    seen = {} if read.meta.split == "test" else {"read_on": read.meta.split}
    row = {"run": name, **measure(run, val, read)} | seen | card
    return keep(result, config, row, outcomes(val, read), tables)


def is_done(result: Path, config: dx.Config) -> bool:
    """Whether there is a result.

    Raises:
        ValueError: it was made with another config.
    """
    if not (result / "row.json").is_file():
        return False
    if dx.Config.from_dict(read_json(result / "config.json")) != config:
        raise ValueError(f"{result} was made with another config: give the changed arm a new name")
    return True


def keep(
    result: Path,
    config: dx.Config,
    row: dict[str, Any],
    correct: Mapping[str, npt.NDArray[Any]] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Any]:
    """Write the result folder, whole or not at all; gives ``row`` back."""
    with atomic_folder(result) as folder:
        if correct is not None:
            with atomic_file(folder / "outcomes.npz") as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **correct)  # type: ignore[arg-type]
        for title, table in (tables or {}).items():
            table.to_csv(folder / f"{title}.csv", index=False, float_format="%.5g")
        write_text(folder / "config.json", config.to_json() + "\n")
        write_json(folder / "row.json", row)
    return row


def write_rows(results: Path, names: Iterable[str], path: Path) -> pd.DataFrame:
    """The rows of all finished runs among ``names`` as CSV, in that order; written whole, so no worker can tear it."""
    table = pd.DataFrame([read_json(f) for name in names if (f := results / name / "row.json").is_file()])
    write_table(path.stem, table, path.parent)
    return table


def bundled(config: dx.Config) -> dx.Run | None:
    """The bundled run that was made with ``config``."""
    runs = (dx.load_run(path) for path in sorted(dx.runs.BUNDLED_RUNS.iterdir()) if (path / "config.json").is_file())
    return next((run for run in runs if run.config == config), None)


def train(path: Path, config: dx.Config, progress: Progress, watch: GradientLog | None, device: str) -> dx.Run:
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

    return dx.train(config, name, progress=report, on_epoch=watch, resume=started, force=not started, device=device)


def record(run: dx.Run, splits: tuple[str, ...], precision: str, progress: Progress, device: str) -> None:
    """The records that are not there yet."""
    for split in splits:
        if split not in run.splits():
            progress(f"{run.name}: recording {split}")
            dx.record_run(run, split, precision=precision, keep_logits=False, device=device)


def _card(device: str) -> dict[str, str]:
    """The name of the GPU that a run was made on; nothing on a CPU."""
    return {"card": torch.cuda.get_device_name()} if device == "cuda" else {}


# -- its numbers --


def measure(run: dx.Run, val: dx.ExitRecord, test: dx.ExitRecord) -> dict[str, float]:
    """A run's numbers: thresholds from ``val``, read on ``test`` (or on val again), everything counted."""
    history = run.history()
    accuracy, errors = test.correct.mean(axis=0), dx.analysis.calibration_error(test)
    row: dict[str, Any] = {
        "exits": test.n_exits,
        "train_size": run.config.data.train_size,
        "first_exit": accuracy[0],
        "last_exit": accuracy[-1],
        "full_flops": test.flops_fraction[-1],
        "parameters": sum(value.numel() for value in dx.runs.read_weights(run.path).values()),
        "train_seconds": history["seconds"].sum(),
        "kept_epoch": int(history["area"].idxmax()) + 1,
        "area": dx.analysis.area(test),
    }
    for k in range(test.n_exits):
        row |= {f"exit_{k + 1}": accuracy[k], f"ece_{k + 1}": errors[k]}
    row |= {"score_val": score(val, val), "score": score(val, test)}
    for budget in REPORTED:
        if (outcome := at_budget(val, test, budget)) is not None:
            result = outcome.summary()
            row[f"accuracy_{budget:.0%}"], row[f"flops_{budget:.0%}"] = result["accuracy"], result["flops_fraction"]
    return {key: float(value) for key, value in row.items() if value is not None}


def outcomes(val: dx.ExitRecord, test: dx.ExitRecord) -> dict[str, npt.NDArray[Any]]:
    """Correctness image by image of test: (B,) bools at ``first exit``, ``last exit`` and each reported budget.

    ``score`` (B,) uint8 counts at how many of `BUDGETS` an image is correct. What a run cannot meet is left out.
    """
    found: dict[str, npt.NDArray[Any]] = {"first exit": test.correct[:, 0], "last exit": test.correct[:, -1]}
    correct = {b: outcome.correct for b in BUDGETS if (outcome := at_budget(val, test, b)) is not None}
    found |= {f"{100 * b:.0f} %": correct[b] for b in REPORTED if b in correct}
    if len(correct) == len(BUDGETS):
        found["score"] = np.sum(list(correct.values()), axis=0, dtype=np.uint8)
    return found


def score(val: dx.ExitRecord, test: dx.ExitRecord) -> float | None:
    """Accuracy averaged over `BUDGETS`; None for a run with one exit or one that cannot meet them all."""
    counts = outcomes(val, test).get("score")
    return None if counts is None else float(counts.mean() / len(BUDGETS))


def at_budget(val: dx.ExitRecord, test: dx.ExitRecord, budget: float) -> dx.Outcome | None:
    """Outcome on ``test`` of the threshold fitted to ``budget`` on val; None if exit 1 alone uses more."""
    if test.n_exits == 1 or val.flops_fraction[0] > budget:
        return None
    return dx.apply(dx.fit_policy(val, flops=budget), test)

"""One row of the controls: train, record, measure, and append it to the results.

In: a job of the protocol and the folder of the runs. Out: a row of ``controls.csv``, and in ``controls.parquet`` the
correctness of every image at each of its endpoints, in packed bits; both are replaced whole. The row is written last:
it says that a job is done.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import dmpo_explore as dx
from _controls.protocol import BUDGETS, TEACHER, Experiment, Job
from dmpo_explore.models.flops import config_flops
from dmpo_explore.training.teacher import with_teacher_address
from dmpo_explore.utils.files import atomic_file

Bools = npt.NDArray[np.bool_]
ROWS, OUTCOMES = "controls.csv", "controls.parquet"


def read_rows(results: Path) -> pd.DataFrame:
    """Finished rows, by name; empty where there are none."""
    file = results / ROWS
    text = {"config": str, "commit": str}
    return pd.read_csv(file, index_col="name", dtype=text) if file.is_file() else pd.DataFrame(columns=["config"])


def is_done(job: Job, config: dx.Config, rows: pd.DataFrame) -> bool:
    """Whether there is a row; ValueError if it was made with another config."""
    if job.name not in rows.index:
        return False
    if rows.loc[job.name, "config"] != digest(config):
        raise ValueError(f"{job.name} was made with another config: give the changed arm a new name")
    return True


def config_of(job: Job, experiment: Experiment, rows: pd.DataFrame) -> dx.Config | None:
    """The config of a job; None while the trials of its rate are missing."""
    rate = job.rate
    if experiment.rates and rate is None and job.arm != TEACHER:
        trials = {replace(job, seed=experiment.seeds[0], rate=rate, read="val").name: rate for rate in experiment.rates}
        if not {*trials} <= {*rows.index}:
            return None
        found = rows.loc[[*trials], [f"accuracy_{name}" for name in BUDGETS]].astype(float)
        rate = trials[str(found.mean(axis=1, skipna=False).idxmax())]
    return experiment.config(job.data, job.arm, job.seed, rate)


def make_row(job: Job, experiment: Experiment, config: dx.Config, root: Path, results: Path, commit: str) -> None:
    """Train (or go on), record, measure, and append the row; its teacher is trained first where it is not there."""
    start, runs = time.process_time(), root.absolute() / f"{job.experiment}-{job.data}"
    os.environ["DMPO_EXPLORE_RUNS"] = str(runs)  # where the library puts runs, and finds teachers
    runs.mkdir(parents=True, exist_ok=True)
    rate = ""
    if experiment.rates and job.arm != TEACHER:
        rate = f"-{config.training.tuning_lr:g}"
        trained(runs / f"{TEACHER}-s{job.seed}", experiment.config(job.data, TEACHER, job.seed))
    run = trained(runs / f"{job.arm}{rate}-s{job.seed}", config)
    for split in dict.fromkeys(("calibration", "val", job.read)):
        if split not in run.splits():
            print(f"{job.name}: recording {split}", flush=True)
            dx.record_run(run, split, keep_logits=False, device="cpu")
    seen, calibration = run.record(job.read), run.record("calibration")
    plain = replace(config.model, image_size=experiment.reference, exits=1)
    whole = float(config_flops(plain, len(seen.meta.class_names)).reference)
    numbers, correct = measure(calibration, seen, whole)
    history = run.history()
    row = {"name": job.name, "experiment": job.experiment, "set": job.data, "arm": job.arm, "seed": job.seed}
    row |= {"rate": config.training.tuning_lr, "read": job.read, "config": digest(config), "commit": commit, **numbers}
    row |= {"area_val": float(history["area"].max()), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"last_loss": float(history["loss"].iloc[-1]), "train_seconds": float(history["seconds"].sum())}
    append(results, row | {"cpu_seconds": time.process_time() - start}, correct)


def trained(path: Path, config: dx.Config) -> dx.Run:
    """The trained run in folder ``path``: made, gone on with, or there; ValueError for one of another config."""
    run = dx.load_run(path) if (path / "config.json").is_file() else None
    if run is not None and len(run.history()) >= config.training.epochs:
        if run.config not in (config, with_teacher_address(config)):
            raise ValueError(f"{path} was made with another config: remove it, or give the changed arm a new name")
        return run

    def report(epoch: dx.EpochResult) -> None:
        print(f"{path.name}: epoch {epoch.epoch}/{epoch.epochs}, area on val {epoch.area:.3f}", flush=True)

    started = (path / "checkpoint.pt").is_file()
    return dx.train(config, path.name, progress=report, resume=started, force=not started, device="cpu")


def measure(
    calibration: dx.ExitRecord, read: dx.ExitRecord, reference: float
) -> tuple[dict[str, float], dict[str, Bools]]:
    """A row's numbers and the correctness behind them: every exit and every budget, as shares of ``reference``."""
    row: dict[str, float] = {}
    correct = {f"exit {k + 1}": read.correct[:, k] for k in range(read.n_exits)}
    for k, flops in enumerate(read.meta.flops):
        row |= {f"exit_{k + 1}": float(read.correct[:, k].mean()), f"gflops_{k + 1}": flops / 1e9}
    for name, budget in BUDGETS.items():
        flops = budget * reference
        if read.n_exits > 1 and calibration.meta.flops[0] <= flops:
            allowed = min(flops, calibration.meta.flops[-1]) / calibration.meta.reference_flops
            outcome = dx.apply(dx.fit_policy(calibration, flops=allowed), read)
            found = outcome.summary()
            correct[name], row[f"accuracy_{name}"] = outcome.correct, found["accuracy"]
            row[f"share_{name}"] = found["flops_fraction"] * read.meta.reference_flops / reference
    return row, correct


def append(results: Path, row: dict[str, Any], correct: dict[str, Bools]) -> None:
    """Add a row and its outcomes to the results, in place of those of the same name."""
    rows, file = read_rows(results), results / OUTCOMES
    name = row["name"]
    packed = [{"name": name, "at": at, "n": len(a), "correct": np.packbits(a).tobytes()} for at, a in correct.items()]
    kept = pd.read_parquet(file) if file.is_file() else pd.DataFrame(packed).head(0)
    outcomes = pd.concat([kept[kept["name"] != name], pd.DataFrame(packed)], ignore_index=True)
    with atomic_file(file) as temporary:
        outcomes.to_parquet(temporary, index=False)
    new = pd.DataFrame([row]).set_index("name")
    table = pd.concat([rows.drop(index=name, errors="ignore"), new]) if len(rows) else new
    with atomic_file(results / ROWS) as temporary:
        table.to_csv(temporary, index_label="name", float_format="%.6g")


def correct_of(outcomes: pd.DataFrame, name: str, at: str) -> Bools:
    """(B,) correctness by image, of a row at an endpoint, from ``controls.parquet``."""
    row = outcomes[(outcomes["name"] == name) & (outcomes["at"] == at)].iloc[0]
    return np.unpackbits(np.frombuffer(row["correct"], np.uint8), count=int(row["n"])).astype(bool)


def digest(config: dx.Config) -> str:
    """Sixteen digits of the SHA-256 of what a config sets; versions differ in the unset options that they write."""
    return hashlib.sha256(
        "".join(
            line.strip(" ,") for line in config.to_json().splitlines() if not line.rstrip(",").endswith(": null")
        ).encode()
    ).hexdigest()[:16]

"""Train and measure every arm of a grid over its seeds: `scripts/bench study core`, as often and wherever you like.

In: a grid of `grids.GRIDS`. Out: a run folder per arm and seed under ``--root``, a row per finished run in
``benchmarks/results/study-GRID.csv``. Workers (more processes, or more machines with one ``--storage``) share the grid
through optuna's storage: a run is trained by one of them; where that one stops answering another goes on from the last
finished epoch; a finished run is never made again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from grids import BUDGETS, GRIDS, REPORTED, SEEDS, change
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from tqdm import tqdm

import dmpo_explore as dx
from dmpo_explore.calibration import calibration_error
from dmpo_explore.files import atomic_file, read_json, write_json
from dmpo_explore.metrics import area

RESULTS = Path(__file__).parent / "results"
ROW = "row.json"  # in a run's folder: it is finished


def plan(grid: Mapping[str, dx.Config], seeds: tuple[int, ...] = SEEDS) -> dict[str, dx.Config]:
    """Run name → config, a seed of every arm before the next seed of any."""
    return {f"{arm}-s{seed}": change(config, seed=seed) for seed in seeds for arm, config in grid.items()}


# -- one run --


def make_run(path: Path, config: dx.Config, progress: Callable[[str], None]) -> dict[str, Any]:
    """Train (or go on), record and measure the run in folder ``path``; its row, kept there too."""
    name = path.name
    if (path / ROW).is_file():
        return dict(read_json(path / ROW))
    started = (path / "checkpoint.pt").is_file()
    run = dx.load_run(path) if (path / "config.json").is_file() else None
    if run is None or len(run.history()) < config.training.epochs:
        for result in dx.train(config, name, resume=started, force=not started):
            progress(f"{name}: epoch {result.epoch}/{result.epochs}, area on val {result.area:.3f}")
        run = dx.load_run(path)
    for split in ("val", "test"):
        if split not in run.splits():
            progress(f"{name}: recording {split}")
            dx.record_run(run, split, precision="bf16", keep_logits=False)
    row = {"run": name, **measure(run)}
    write_json(path / ROW, row)
    return row


def measure(run: dx.Run) -> dict[str, Any]:
    """A run's numbers: thresholds from val, read on test, everything counted."""
    val, test, history = run.record("val"), run.record("test"), run.history()
    accuracy = test.correct.mean(axis=0)
    row: dict[str, Any] = {
        "exits": test.n_exits,
        "train_size": run.config.data.train_size,
        "first_exit": accuracy[0],
        "last_exit": accuracy[-1],
        "full_flops": test.flops_fraction[-1],
        "parameters": sum(value.numel() for value in run.model("cpu").trainable_state().values()),
        "train_seconds": history["seconds"].sum(),
        "kept_epoch": int(history["area"].idxmax()) + 1,
        "area": area(test),
        "ece_last": calibration_error(test)[-1],
    }
    row |= {f"exit_{k}": value for k, value in enumerate(accuracy, start=1)}
    row |= {"score_val": score(val, val), "score": score(val, test)}
    for budget in REPORTED:
        if (exits := at_budget(val, test, budget)) is not None:
            result = dx.summarise(test, exits)
            row[f"accuracy_{budget:.0%}"], row[f"flops_{budget:.0%}"] = result["accuracy"], result["flops_fraction"]
    return {key: value if isinstance(value, str) else float(value) for key, value in row.items() if value is not None}


def at_budget(val: dx.ExitRecord, test: dx.ExitRecord, budget: float) -> Any:
    """(B,) exits on ``test`` under the threshold that val chooses for ``budget``; None if even exit 1 costs more."""
    if test.n_exits == 1 or val.flops_fraction[0] > budget:
        return None
    return dx.fit_policy(val, flops=budget).exits(test)


def score(val: dx.ExitRecord, test: dx.ExitRecord) -> float | None:
    """Accuracy averaged over `BUDGETS`; None for a run that has no choice or cannot meet them all."""
    exits = [at_budget(val, test, budget) for budget in BUDGETS]
    rows = np.arange(test.images)
    if any(e is None for e in exits):
        return None
    return float(np.mean([test.correct[rows, e].mean() for e in exits]))


# -- the queue --


def open_queue(url: str, name: str, runs: Mapping[str, dx.Config], patience: int = 300) -> optuna.Study:
    """The shared study; every run of the grid is queued once.

    Args:
        patience: seconds without a sign of life after which a worker's run is given to another.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # optuna's word for heartbeats since 2021
    storage = RDBStorage(
        url,
        heartbeat_interval=max(1, patience // 5),
        grace_period=patience,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    queued = {trial.user_attrs.get("run") for trial in study.get_trials(deepcopy=False)}
    for run in runs:
        if run not in queued:
            study.enqueue_trial({"run": run}, user_attrs={"run": run}, skip_if_exists=True)
    return study


def work(study: optuna.Study, runs: Mapping[str, dx.Config], root: Path, results: Path) -> int:
    """Take runs from the queue until it is empty; returns how many this worker finished."""
    names = list(runs)
    with tqdm(total=len(runs), initial=_finished(study), unit="run", disable=None, smoothing=0) as bar:
        begun, done = time.perf_counter(), 0

        def objective(trial: optuna.Trial) -> float:
            name = trial.suggest_categorical("run", names)
            if trial.user_attrs.get("run") != name or _has_another(study, trial):
                raise optuna.TrialPruned  # drawn, not queued: another worker took the last one
            row = make_run(root / name, runs[name], lambda text: bar.set_postfix_str(text))
            write_rows(root, names, results)
            return float(row["last_exit"])

        while True:
            optuna.storages.fail_stale_trials(study)
            if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return done
            study.optimize(objective, n_trials=1, catch=(FloatingPointError,))
            done += 1
            bar.n = _finished(study)
            left = (time.perf_counter() - begun) / done * (len(runs) - bar.n) / 60
            bar.set_description(f"about {left:.0f} min left")


def _has_another(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether this run is with another worker (two that start at once may both have queued it)."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return any(t.user_attrs.get("run") == trial.user_attrs["run"] and t.number < trial.number for t in running)


def _finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def write_rows(root: Path, names: list[str], results: Path) -> pd.DataFrame:
    """All finished runs' rows as CSV, in the grid's order; written whole, so that workers cannot tear it."""
    rows = [read_json(root / name / ROW) for name in names if (root / name / ROW).is_file()]
    table = pd.DataFrame(rows)
    results.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(results) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument("--root", type=Path, default=Path("runs/study"), help="folder of the runs")
    parser.add_argument("--storage", help="optuna storage that all workers see; default: SQLite in the root")
    parser.add_argument("--patience", type=int, default=300, help="seconds until a silent worker's run is given away")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = options.root / options.grid
    root.mkdir(parents=True, exist_ok=True)
    runs = plan(GRIDS[options.grid])
    url = options.storage or f"sqlite:///{root.resolve() / 'queue.db'}"
    study = open_queue(url, options.grid, runs, options.patience)
    os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
    work(study, runs, root, RESULTS / f"study-{options.grid}.csv")
    open_runs = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if open_runs:
        print(f"{len(open_runs)} runs are with other workers; start again should one of them have died")
    print(write_rows(root, list(runs), RESULTS / f"study-{options.grid}.csv").to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

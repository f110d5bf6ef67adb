"""Train and measure every arm of a grid over its seeds: `scripts/bench study core`, as often and wherever you like.

``--seeds 1`` begins with one seed of every arm, ``--arms`` with some of the arms.

In: a grid of `_study.grids.GRIDS`. Out: a run folder per arm and seed under ``--root``; what is kept of it in
``benchmarks/results/study/GRID/RUN`` (`_study.run`), a row per finished run in ``benchmarks/results/study-GRID.csv``.
Workers (more processes, or more machines with one ``--storage``) share the grid through optuna's storage: a run is
trained by one of them; where that one stops responding another resumes it, from the last finished epoch if it has the
same ``--root``. A run whose result folder is there is never made again, on any machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from optuna.trial import TrialState
from tqdm import tqdm

import dmpo_explore as dx
from _common.results import RESULTS
from _study.grids import EVIDENCE, GRIDS, RECORDED, SEEDS, SPLITS, change
from _study.run import is_done, make_run, write_rows
from dmpo_explore.search.study import free_stale_trials, open_storage


def plan(grid: Mapping[str, dx.Config], seeds: tuple[int, ...] = SEEDS) -> dict[str, dx.Config]:
    """Run name → config, a seed of every arm before the next seed of any."""
    return {f"{arm}-s{seed}": change(config, seed=seed) for seed in seeds for arm, config in grid.items()}


# -- the queue --


def open_queue(url: str, name: str, runs: Mapping[str, dx.Config], patience: int = 300) -> optuna.Study:
    """The shared study; every run of the grid that is neither queued, nor being made, nor finished is queued.

    Args:
        patience: seconds without a heartbeat after which a worker's run is given to another.
    """
    study = optuna.create_study(storage=open_storage(url, patience), study_name=name, load_if_exists=True)
    ended = (TrialState.FAIL, TrialState.PRUNED)  # interrupted, or given to another worker
    queued = {t.user_attrs.get("run") for t in study.get_trials(deepcopy=False) if t.state not in ended}
    for run in runs:
        if run not in queued:
            study.enqueue_trial({}, user_attrs={"run": run})
    return study


def work(study: optuna.Study, runs: Iterable[str], make: Callable[[str, Callable[[str], None]], float]) -> None:
    """Take runs from the queue and ``make`` them until it is empty.

    Args:
        make: (run, callback for progress texts) → any number of it.
    """
    names = set(runs)
    with tqdm(total=len(names), unit="run", disable=None, smoothing=0) as bar:
        begun, before = time.perf_counter(), len(names & _finished(study))

        def objective(trial: optuna.Trial) -> float:
            name = trial.user_attrs.get("run")
            if name not in names or _has_another(study, trial):
                raise optuna.TrialPruned  # made by optuna, not queued: another worker took the last one
            return make(name, bar.set_postfix_str)

        while True:
            free_stale_trials(study)
            if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return
            study.optimize(objective, n_trials=1)
            bar.n = len(names & _finished(study))
            if bar.n > before:  # by all workers together
                left = (time.perf_counter() - begun) / (bar.n - before) * (len(names) - bar.n) / 60
                bar.set_description(f"about {left:.0f} min left")


def _has_another(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether this run is made or with another worker: two that start, or free a silent one, at once queue it twice."""
    run = trial.user_attrs["run"]
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return run in _finished(study) or any(t.user_attrs.get("run") == run and t.number < trial.number for t in running)


def _finished(study: optuna.Study) -> set[str]:
    return {t.user_attrs["run"] for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}


# -- the command --


def run_grid(grid: str, configs: Mapping[str, dx.Config], options: argparse.Namespace) -> pd.DataFrame:
    """Make the runs of a grid until none is free; returns the rows of all finished runs."""
    root, results = options.root / grid, RESULTS / "study" / grid
    root.mkdir(parents=True, exist_ok=True)
    order = dict.fromkeys([*plan(GRIDS[grid]), *configs])  # also of runs that are not wanted now
    os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs

    def make(name: str, progress: Callable[[str], None]) -> float:
        arm = name.rpartition("-s")[0]
        evidence: tuple[str, ...] = EVIDENCE[grid].get(arm, ())
        how: dict[str, Any] = {"precision": RECORDED[grid], "splits": SPLITS[grid], "evidence": evidence}
        row = make_run(root / name, results / name, configs[name], progress, **how, device=options.device)
        write_rows(results, order, RESULTS / f"study-{grid}.csv")
        return float(row.get("last_exit", 0))  # 0: it diverged

    missing = {name: config for name, config in configs.items() if not is_done(results / name, config)}
    if missing:
        url = options.storage or f"sqlite:///{root.resolve() / 'queue.db'}"
        study = open_queue(url, grid, missing, options.patience)
        work(study, missing, make)
        if others := study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            print(f"{len(others)} runs are with other workers; start again should one of them have died")
        elif absent := [name for name in missing if not (results / name).is_dir()]:
            print(f"made elsewhere, so bring their folders to {results}: {', '.join(absent)}")
    return write_rows(results, order, RESULTS / f"study-{grid}.csv")


def main(arguments: list[str] | None = None) -> int:
    """Run the grid, write its table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of every arm, the first ones")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="only these of the grid")
    parser.add_argument("--root", type=Path, default=Path("runs/study"), help="folder of the runs")
    parser.add_argument("--storage", help="optuna storage that all workers see; default: SQLite in the root")
    parser.add_argument(
        "--patience", type=int, default=300, help="seconds without a heartbeat until a worker's run is given to another"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="one for all runs of a grid")
    options = parser.parse_args(arguments)
    if not 1 <= options.seeds <= len(SEEDS):
        parser.error(f"--seeds {options.seeds} must lie between 1 and {len(SEEDS)}")
    arms = options.arms or list(GRIDS[options.grid])
    if foreign := [arm for arm in arms if arm not in GRIDS[options.grid]]:
        parser.error(f"--arms {foreign[0]}: the grid {options.grid} has {', '.join(GRIDS[options.grid])}")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("study: there is no usable NVIDIA GPU here; leave out --device cuda", file=sys.stderr)
        return 1
    wanted = plan({arm: GRIDS[options.grid][arm] for arm in arms}, SEEDS[: options.seeds])
    print(run_grid(options.grid, wanted, options).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

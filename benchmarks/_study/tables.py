"""Results of the study as tables and arrays: runs, correctness by image, gradients, stages.

In: the folder that `study` writes (``benchmarks/results``). Out: tables and arrays, by grid and arm. No torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from _study.grids import BUDGETS, GRIDS, SEEDS

NAIVE = ("naive-cls", "naive-mean", "naive-both", "naive-equilibrium", "mixed")
# Grid → arms of `core` that its own are shown beside.
REFERENCES = dict.fromkeys(("predictor", "schedule", "tuning"), ("dmpo",))
ALWAYS = ("score", "score_val", "diverged", "exits")  # columns that a grid has even where no run can fill them
Correctness = dict[int, npt.NDArray[np.float64]]  # seed → (B,): of its run on each test image, 0 to 1


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Grid → a row per finished run, for the grids that have any; ``arm`` and ``seed`` from the run's name.

    A run that diverged has ``diverged`` true and no numbers.
    """
    paths = {grid: folder / f"study-{grid}.csv" for grid in GRIDS}
    return {grid: _named(pd.read_csv(path)) for grid, path in paths.items() if path.is_file()}


def _named(table: pd.DataFrame) -> pd.DataFrame:
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *ALWAYS])))
    table["diverged"] = table["diverged"].eq(True)
    parts = table["run"].str.extract(r"^(?P<arm>.+)-s(?P<seed>\d+)$").astype({"seed": int})
    return pd.concat([parts, table.drop(columns="run")], axis=1)


def with_references(folder: Path, grid: str, table: pd.DataFrame) -> pd.DataFrame:
    """A grid's measured runs, before them those of its `REFERENCES`, of the same seeds."""
    beside, home = REFERENCES.get(grid, ()), folder / "study-core.csv"
    if beside and home.is_file():
        core = _named(pd.read_csv(home))
        table = pd.concat([core[core["arm"].isin(beside) & core["seed"].isin(table["seed"])], table])
    return table[~table["diverged"]]


def correctness(folder: Path, grid: str, arm: str, what: str) -> Correctness:
    """Correctness of an arm's finished runs by test image: mean over `BUDGETS`, at one budget, or at an exit.

    Args:
        what: ``score``, ``first exit``, ``last exit``, or a reported budget such as ``30 %``. Runs that cannot meet it
            are left out.
    """
    found: Correctness = {}
    for seed in SEEDS:
        file = folder / "study" / grid / f"{arm}-s{seed}" / "outcomes.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as kept:
                if what in kept:
                    found[seed] = kept[what] / (len(BUDGETS) if what == "score" else 1)
    return found


def strongest_naive(grid: str, table: pd.DataFrame) -> str | None:
    """The grid's naive arm with the best mean score on val, over the seeds that all of them have; None without any."""
    arms = [arm for arm in GRIDS[grid] if arm in NAIVE]
    scores = table.pivot(index="seed", columns="arm", values="score_val")
    shared = scores.reindex(columns=arms).dropna()
    return str(shared.mean().idxmax()) if len(shared) and arms else None


def kept(folder: Path, grid: str, what: str) -> dict[str, pd.DataFrame]:
    """Arm → all its seeds' tables of ``gradients`` or ``stages`` with a column ``seed``, for the arms that have any."""
    found = {}
    for arm in GRIDS[grid]:
        files = {seed: folder / "study" / grid / f"{arm}-s{seed}" / f"{what}.csv" for seed in SEEDS}
        if parts := [pd.read_csv(file).assign(seed=seed) for seed, file in files.items() if file.is_file()]:
            found[arm] = pd.concat(parts, ignore_index=True)
    return found


def cannot_meet(table: pd.DataFrame) -> list[str]:
    """Arms with early exits but no score: even their first exit uses more compute than the smallest budget."""
    without = table["score"].isna() & ~table["diverged"] & (table["exits"] > 1)
    return list(dict.fromkeys(table.loc[without, "arm"]))


def unfinished(grid: str, table: pd.DataFrame) -> str:
    """The arms that lack seeds, with how many they have."""
    have = table["arm"].value_counts()
    return ", ".join(
        f"{arm} ({have.get(arm, 0)} of {len(SEEDS)})" for arm in GRIDS[grid] if have.get(arm, 0) < len(SEEDS)
    )

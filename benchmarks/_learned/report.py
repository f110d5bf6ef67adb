"""Tables of the comparison of learned exit-loss weights, from what is committed of its runs.

In: a study's result folder. Out: the claims of `_learned.protocol` with their intervals, and the learned weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from _learned.protocol import BUDGETS, SEEDS, TRIALS
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.files import read_json

AGAINST = ("linear", "uniform", "random")
Rows = dict[tuple[str, int], dict[str, Any]]


def finished(results: Path) -> Rows:
    """(arm, seed) → row of every finished run; ``random`` is the better trial on val of a seed that has both."""
    rows = {(row["arm"], row["seed"]): row for f in sorted(results.glob("*/row.json")) if (row := dict(read_json(f)))}
    for seed in SEEDS:
        trials = [rows[trial, seed] for trial in TRIALS if (trial, seed) in rows]
        if len(trials) == len(TRIALS):
            best = max(trials, key=lambda row: float(row["area_val"]))
            rows["random", seed] = best | {"passes": sum(row["passes"] for row in trials)}
    return rows


def correct(results: Path, row: dict[str, Any], number: str) -> npt.NDArray[np.bool_]:
    """(B,) correctness by test image."""
    with np.load(results / row["run"] / "outcomes.npz", allow_pickle=False) as kept:
        return np.asarray(kept[number])


def gains(results: Path) -> pd.DataFrame:
    """``learned`` against every other arm, in points, over the seeds that both have."""
    rows, found = finished(results), []
    for other in AGAINST:
        seeds = [seed for seed in SEEDS if ("learned", seed) in rows and (other, seed) in rows]
        for budget in (f"{b:.0%}" for b in BUDGETS):
            if not seeds:
                continue
            ours, theirs = ([correct(results, rows[arm, seed], budget) for seed in seeds] for arm in ("learned", other))
            differences = 100 * (np.array(ours, np.float64) - np.array(theirs, np.float64))
            points, low, high = seeds_interval(differences)
            by_seed = " ".join(f"{value:+.2f}" for value in differences.mean(axis=1))
            key = {"against": other, "budget": budget, "learned": 100 * np.mean(ours), "other": 100 * np.mean(theirs)}
            key |= {"points": points, "low": low, "high": high, "seeds": by_seed}
            passes = {f"passes_{arm}": rows[arm, seeds[0]]["passes"] for arm in ("learned",)}
            found.append(key | passes | {"passes_other": rows[other, seeds[0]]["passes"]})
    return pd.DataFrame(found)


def learned(results: Path) -> pd.DataFrame:
    """The learned weights: ``seed``, ``epoch`` (from 1), ``lambda_1`` …, and ``kept``, whether the run keeps it."""
    found = []
    for (arm, seed), row in finished(results).items():
        if arm != "learned":
            continue
        epochs = max(int(name.rpartition("_")[2]) for name in row if name.startswith("lambda_"))
        n_exits = sum(name.startswith("lambda_") for name in row) // epochs
        for epoch in range(1, epochs + 1):
            weights = {f"lambda_{k}": row[f"lambda_{k}_{epoch}"] for k in range(1, n_exits + 1)}
            found.append({"seed": seed, "epoch": epoch, **weights, "kept": epoch == row["kept_epoch"]})
    return pd.DataFrame(found)

"""Copy the study's tables that lessons read into the package: python notebooks/tables.py

In: benchmarks/results. Out: dmpo_explore/course/study/*.csv. A test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dmpo_explore.analysis import gain

ROOT = Path(__file__).resolve().parents[1]
RESULTS, FOLDER = ROOT / "benchmarks" / "results", ROOT / "dmpo_explore" / "course" / "study"


def claims() -> str:
    """What the second edition claims of each data set: differences of accuracy, over images and trainings."""
    found = pd.read_csv(RESULTS / "second-claims.csv", dtype=str)
    at = found["at"].where(found["at"].str.endswith("%"), "")  # else the rival's own compute
    found["question"] = (found["text"] + ", " + at).str.removesuffix(", ")
    columns = ["study", "a", "b", "question", "points", "low", "high", "seeds", "holds"]
    return found[columns].assign(over="images and trainings").to_csv(index=False)


def last_exit() -> str:
    """Photographs (second edition, Caltech-101): the last exit of naive exits and of DMPO against a net of one exit.

    That net has DMPO's head behind the last block, and the same pixels; every pair over the seeds that both have.
    """
    runs, rows = pd.read_parquet(RESULTS / "second.parquet").query("set == 'caltech'").set_index("run"), []
    for name, arm in {"naive exits": "naive", "naive exits with bypass": "naive-bypass", "DMPO": "dmpo"}.items():
        sides = []
        for one, number in ((arm, "exit 6"), ("single-head-84", "exit 1")):
            answers = runs.loc[runs.index.str.fullmatch(f"{one}-s[0-9]"), f"correct {number}"]
            sides.append({run[-1]: answer for run, answer in answers.items()})
        shared = sorted(sides[0].keys() & sides[1].keys())
        rows.append(gain(f"{name}, last exit", *(np.stack([of[seed] for seed in shared]) for of in sides)))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


TABLES: dict[str, Callable[[], str]] = {"claims": claims, "last-exit": last_exit}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.csv").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()

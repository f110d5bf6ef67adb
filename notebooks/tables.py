"""Copy the study's tables that notebooks read into the package: python notebooks/tables.py

In: benchmarks/results. Out: dmpo_explore/course/study/*.csv. A test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import dmpo_explore as dx

ROOT = Path(__file__).resolve().parents[1]
RESULTS, FOLDER = ROOT / "benchmarks" / "results", ROOT / "dmpo_explore" / "course" / "study"
sys.path.append(str(ROOT / "benchmarks"))

from _study.tables import correctness

GRIDS = ("core", "predictor", "schedule")  # whose gains the notebooks show
ROOTS = "Newton–Schulz in place of the signed root"
STATIC = {  # question → arm and its number, other arm and its number, of the second edition
    "at most 30 %, over a static net of 4 blocks, 35 %": ("dmpo", "30%", "static-4", "exit 1"),
    "at most 50 %, over a static net of 6 blocks, 51 %": ("dmpo", "50%", "static-6", "exit 1"),
    "at most 50 %, over a static net of 8 blocks, 68 %": ("dmpo", "50%", "static-8", "exit 1"),
    "at most 50 %, over the full net with that head": ("dmpo", "50%", "single-head", "exit 1"),
    "over naive exits with as many trained weights, 30 %": ("dmpo", "30%", "naive-matched", "30%"),
}
STATIC_SEEDS = (0, 1)  # those that all of these arms have


def compared(question: str, more: npt.ArrayLike, less: npt.ArrayLike) -> dict[str, Any]:
    """A row of `dx.figures.gains_figure`; both are (seeds, B), correctness by image, from 0 to 1."""
    points = 100 * (np.asarray(more, float) - np.asarray(less, float))
    mean, low, high = dx.analysis.seeds_interval(points)
    over = "images and trainings" if len(points) > 1 else "images"
    row = {"question": question, "points": mean, "low": low, "high": high}
    return row | {"seeds": " ".join(f"{value:+.2f}" for value in points.mean(axis=1)), "over": over}


def gains() -> str:
    """Differences of accuracy between arms, the interval over images and trainings."""
    rows = []
    table = pd.read_csv(RESULTS / "gains.csv")
    for row in table[table["grid"].isin(GRIDS)].itertuples():
        sides = []
        for side in (row.a, row.b):
            arm, number = side.split(", ")
            sides.append(correctness(RESULTS, row.grid, arm, number) or correctness(RESULTS, "core", arm, number))
        shared = sorted(sides[0].keys() & sides[1].keys())
        question = row.question.replace("dmpo-isqrt against dmpo", ROOTS)
        question += ", score" if row.kind == "part" or question == ROOTS else ""
        both = ([side[seed] for seed in shared] for side in sides)
        rows.append({"grid": row.grid, "a": row.a, "b": row.b} | compared(question, *both))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def static() -> str:
    """The second edition's ``dmpo`` against static nets with its head, and against naive exits as large as it."""
    folder = RESULTS / "second" / "fashion"

    def hits(arm: str, number: str) -> list[npt.NDArray[np.bool_]]:
        return [np.load(folder / f"{arm}-s{seed}" / "outcomes.npz")[number] for seed in STATIC_SEEDS]

    rows = [compared(question, hits(*sides[:2]), hits(*sides[2:])) for question, sides in STATIC.items()]
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def evidence() -> str:
    """Similarity and probes of the arms of the grid ``core``, means over the early stages, as they are."""
    return (RESULTS / "evidence.csv").read_text(encoding="utf-8")


def gradients() -> str:
    """Agreement of the gradients, of all arms and seeds of the grid ``core`` in one table."""
    files = sorted((RESULTS / "study" / "core").glob("*/gradients.csv"))
    names = [path.parent.name.rpartition("-s") for path in files]
    parts = [
        pd.read_csv(path).assign(arm=arm, seed=int(seed)) for path, (arm, _, seed) in zip(files, names, strict=True)
    ]
    return pd.concat(parts).to_csv(index=False)


def photos() -> str:
    """On photographs: every exit of ``dmpo`` against the single model, paired over the val images, one seed each."""
    dmpo, single = (np.load(RESULTS / "photos" / f"{name}-s0" / "outcomes.npz") for name in ("dmpo", "single-linear"))
    row = pd.read_csv(RESULTS / "photos.csv").set_index("run")
    full = row.loc["single-linear-s0", "gflops_1"]
    rows = []
    for k in range(1, 5):
        question = f"exit {k}, {row.loc['dmpo-s0', f'gflops_{k}'] / full:.0%} of the compute"
        rows.append(compared(question, dmpo[f"exit {k}"][None], single["exit 1"][None]))
    return pd.DataFrame(rows).round(3).to_csv(index=False)


def photos_probes() -> str:
    """Ridge probes of the frozen trunk on photographs, by block, as they are."""
    return (RESULTS / "photos-probes.csv").read_text(encoding="utf-8")


def small_cnn() -> str:
    """Accuracies of the small CNN of notebooks 01 and 04, as they are."""
    return (RESULTS / "small-cnn.csv").read_text(encoding="utf-8")


TABLES: dict[str, Callable[[], str]] = {
    "evidence": evidence,
    "gains": gains,
    "gradients": gradients,
    "photos": photos,
    "photos-probes": photos_probes,
    "small-cnn": small_cnn,
    "static": static,
}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.csv").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()

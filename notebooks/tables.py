"""Copy the study's tables that notebooks read into the package: python notebooks/tables.py

In: benchmarks/results. Out: dmpo_explore/course/study/*.csv. A test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS, FOLDER = ROOT / "benchmarks" / "results", ROOT / "dmpo_explore" / "course" / "study"


def gains() -> str:
    """Differences of accuracy between arms, as they are."""
    return (RESULTS / "gains.csv").read_text(encoding="utf-8")


def gradients() -> str:
    """Agreement of the gradients, of all arms and seeds of the grid ``core`` in one table."""
    files = sorted((RESULTS / "study" / "core").glob("*/gradients.csv"))
    names = [path.parent.name.rpartition("-s") for path in files]
    parts = [
        pd.read_csv(path).assign(arm=arm, seed=int(seed)) for path, (arm, _, seed) in zip(files, names, strict=True)
    ]
    return pd.concat(parts).to_csv(index=False)


TABLES: dict[str, Callable[[], str]] = {"gains": gains, "gradients": gradients}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.csv").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Copy the study's tables that notebooks read into the package: python notebooks/tables.py

In: benchmarks/results. Out: dmpo_explore/course/study/*.csv. A test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def photos() -> str:
    """On photographs: every exit of ``dmpo`` against the single model, paired over the val images, one seed each."""
    dmpo, single = (np.load(RESULTS / "photos" / f"{name}-s0" / "outcomes.npz") for name in ("dmpo", "single-linear"))
    row = pd.read_csv(RESULTS / "photos.csv").set_index("run")
    full = row.loc["single-linear-s0", "gflops_1"]
    rows = []
    for k in range(1, 5):
        points = 100 * (dmpo[f"exit {k}"].astype(float) - single["exit 1"])
        half = 1.96 * points.std(ddof=1) / len(points) ** 0.5
        question = f"exit {k}, {row.loc['dmpo-s0', f'gflops_{k}'] / full:.0%} of the compute"
        mean = points.mean()
        rows.append([question, mean, mean - half, mean + half, f"{mean:+.2f}"])
    return pd.DataFrame(rows, columns=["question", "points", "low", "high", "seeds"]).round(3).to_csv(index=False)


def photos_probes() -> str:
    """Ridge probes of the frozen trunk on photographs, by block, as they are."""
    return (RESULTS / "photos-probes.csv").read_text(encoding="utf-8")


def small_cnn() -> str:
    """Accuracies of the small CNN of notebooks 01 and 04, as they are."""
    return (RESULTS / "small-cnn.csv").read_text(encoding="utf-8")


TABLES: dict[str, Callable[[], str]] = {
    "gains": gains,
    "gradients": gradients,
    "photos": photos,
    "photos-probes": photos_probes,
    "small-cnn": small_cnn,
}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.csv").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The tables of the experiments are those of the committed results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from _tuning import protocol

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "results" / "neighbours"
PAGE = (ROOT / "benchmarks" / "NEIGHBOURS.md").read_text(encoding="utf-8")


def cell(points: float, low: float, high: float) -> str:
    return f"{points:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


@pytest.mark.parametrize("study", ["fashion", "caltech"])
def test_width_and_depth(study: str) -> None:
    table = pd.read_csv(FOLDER / f"slimming-{study}-table.csv")
    for budget, rows in table.groupby("budget"):
        ways = rows.set_index("way")
        accuracies = " | ".join(f"{ways.loc[way, 'accuracy']:.1f}" for way in ("width", "depth", "both"))
        cells = [cell(*ways.loc[pair, ["accuracy", "low", "high"]]) for pair in ("depth - width", "both - depth")]
        share = {"w67": "two thirds", "w50": "half", "w33": "a third"}[ways["budget_of"].iloc[0]]
        assert f"| {budget:.3f} ({share}) | {accuracies} | {' | '.join(cells)} |" in PAGE


def test_width_and_depth_at_equal_time() -> None:
    tables = [pd.read_csv(FOLDER / f"slimming-{study}-time-table.csv") for study in ("fashion", "caltech")]
    for arm, name in (("w67", "two thirds"), ("w50", "half"), ("w33", "a third")):
        cells = []
        for table in tables:
            ways = table[table["budget_of"] == arm].set_index("way")
            cells.append(f"{1000 * ways['budget'].iloc[0]:.1f}")
            pairs = ("depth - width", "both - depth")
            cells += [cell(*ways.loc[pair, ["accuracy", "low", "high"]]) for pair in pairs]
        assert f"| {name} | {' | '.join(cells)} |" in PAGE


def test_learned_weights() -> None:
    table = pd.read_csv(FOLDER / "learned-fashion-gains.csv")
    for other, rows in table.groupby("against"):
        name = {"random": "a random search of the same cost"}.get(str(other), f"`{other}`")
        cells = " | ".join(cell(row.points, row.low, row.high) for row in rows.itertuples())
        assert f"| {name} | {cells} |" in PAGE


def test_tunings() -> None:
    table = pd.read_csv(FOLDER / "tuning-fashion-table.csv")
    assert (table["seeds"] == 3).all() and len(table) == 3 * len(protocol.ARMS) * 4
    for reading in ("clean 40%", "corrupted 40%"):
        for arm, rows in table[table["reading"] == reading].groupby("arm"):
            found = rows.set_index("regime").loc[["full", "few-16", "few-4"]]
            if arm == "lora":
                cells = " | ".join(f"{row.accuracy:.1f}" for row in found.itertuples())
            else:
                cells = " | ".join(cell(row.difference, row.low, row.high) for row in found.itertuples())
            assert f"| {reading.split()[0]} | `{arm}` | {cells} |" in PAGE

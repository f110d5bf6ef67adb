"""The table width × depth: every row is recomputed from what is kept of the runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import slimming as command
from _slimming import protocol, report
from dmpo_explore.neighbours.slimming.settings import kept_width, read_settings
from dmpo_explore.utils.files import write_json


def keep(folder: Path, arm: str, seed: int, gflops: list[float], right: list[float]) -> None:
    """A made-up run: confident where it is correct; ``right``: the share of correct answers at each exit."""
    result = folder / f"{arm}-s{seed}"
    result.mkdir(parents=True)
    write_json(result / "row.json", {"run": result.name} | {f"gflops_{k + 1}": g for k, g in enumerate(gflops)})
    place = (np.arange(100)[:, None] + 0.5) / 100
    correct = place < np.array(right)
    values = {"correct": correct, "confidence": np.where(correct, 0.9, 0.1 + 0.001 * place).astype(np.float32)}
    arrays = {f"{split} {what}": value for split in ("calibration", "test") for what, value in values.items()}
    np.savez_compressed(result / "outcomes.npz", **arrays)  # type: ignore[arg-type]


def test_ways_are_compared_at_equal_budgets(tmp_path: Path) -> None:
    assert report.table(tmp_path).empty and report.importance_table(tmp_path).empty
    for seed in protocol.SEEDS[:2]:
        keep(tmp_path, "wide", seed, [1.0, 4.0], [0.5, 0.9])
        keep(tmp_path, "w67", seed, [0.7, 2.5], [0.5, 0.8])
        keep(tmp_path, "w50", seed, [0.5, 2.0], [0.4, 0.7])
        keep(tmp_path, "w33", seed, [0.4, 1.5], [0.3, 0.6])
    table = report.table(tmp_path)
    assert (table["seeds"] == 2).all() and table["budget_of"].unique().tolist() == ["w67", "w50", "w33"]
    first = table[table["budget_of"] == "w67"].set_index("way")
    assert first.loc["width", "accuracy"] == pytest.approx(80)  # all of w67 at its last exit
    assert first.loc["depth", "accuracy"] == pytest.approx(90)  # half of the images can exit at exit 1: 2.5 GFLOPs
    assert first.loc["depth", "used"] <= 2.5
    assert first.loc["both", "accuracy"] == pytest.approx(90)
    assert first.loc["both - width", "accuracy"] == pytest.approx(10)
    rows = zip(protocol.WIDTHS, (1.0, 0.7, 0.5, 0.4), (10.0, 2.5, 2.0, 1.5), strict=True)
    timed = report.table(tmp_path, pd.DataFrame(rows, columns=["arm", "seconds_1", "seconds_2"]))
    assert timed[timed["way"] == "width"]["accuracy"].tolist() == pytest.approx([80, 70, 60])


def test_the_plane_is_the_mean_of_the_seeds(tmp_path: Path) -> None:
    assert report.plane(tmp_path).empty
    for seed, share in enumerate((0.7, 0.9)):
        for arm, cost in zip(protocol.WIDTHS, (4.0, 2.5, 2.0, 1.5), strict=True):
            keep(tmp_path, arm, seed, [cost / 4, cost], [0.5, share])
    found = report.plane(tmp_path, points=3)
    wide = found[found["run"] == "wide"].sort_values("threshold")
    assert wide["gflops"].tolist() == pytest.approx([1.0, 2.5, 4.0])  # all, half, none at exit 1
    assert wide["accuracy"].tolist() == pytest.approx([0.5, 0.8, 0.8])  # the mean of 0.7 and 0.9
    assert found["budget"].is_monotonic_increasing and found["front"].iloc[0]
    assert set(found.loc[found["front"], "run"]) == {"w33"}  # as accurate, and cheaper


def test_the_protocols_runs_can_be_made() -> None:
    study = protocol.STUDIES["fashion"]
    assert study.config(2).training.seed == 2 and len(list(study.plan())) == 15
    assert set(protocol.WIDTHS) <= {protocol.WIDE, *protocol.SLIMMED} and protocol.SLIM["lr"] == protocol.LR
    heads = {arm: kept_width(study.base.model, read_settings(s))[0][0] for arm, s in protocol.SLIMMED.items()}
    assert heads == {"w67": 4, "w50": 3, "w33": 2, "w50-last": 3}


@pytest.mark.parametrize("study", protocol.STUDIES)
def test_published_rows_are_those_of_the_runs(study: str) -> None:
    folder, name = command.FOLDER, f"slimming-{study}"
    rows = pd.read_csv(folder / f"{name}.csv")
    order = [f"{arm}-s{seed}" for arm, seed in protocol.STUDIES[study].plan()]
    assert rows["run"].tolist() == [run for run in order if (folder / name / run).is_dir()]
    for row in rows.to_dict("records"):
        with np.load(folder / name / row["run"] / "outcomes.npz") as stored:
            accuracy = stored["test correct"].mean(axis=0)
        assert [row[f"exit_{k + 1}"] for k in range(4)] == pytest.approx(accuracy.tolist(), abs=1e-5)
    table = report.table(folder / name)
    if not table.empty:
        published = pd.read_csv(folder / f"{name}-table.csv")
        assert published["accuracy"].tolist() == pytest.approx(table["accuracy"].tolist(), abs=1e-3)

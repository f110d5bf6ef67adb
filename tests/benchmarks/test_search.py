"""The comparison of searches on a synthetic table: counting, pairing and the report."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search as bench
from _search import report as page
from dmpo_explore.search.goal import Goal
from search import EPOCHS, GRID, OURS, SPACE


def made_up() -> pd.DataFrame:
    """Better with the learning rate and the epoch; a bypass adds compute and accuracy."""
    rows = []
    for values in itertools.product(*GRID.values()):
        params = dict(zip(GRID, values, strict=True))
        for epoch in range(1, EPOCHS + 1):
            good = 0.3 + 0.05 * GRID["training.predictor_lr"].index(params["training.predictor_lr"]) + 0.03 * epoch
            flops = 0.3 + 0.2 * (params["model.bypass"] == "conv")
            accuracy = [good, good + 0.1 + 0.1 * (params["model.bypass"] == "conv")]
            texts = [" ".join(map(str, v)) for v in (accuracy, [flops, flops + 0.3])]
            rows.append(
                params
                | {"epoch": epoch, "seconds": epoch}
                | dict(zip(("accuracy", "flops_fraction"), texts, strict=True))
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table() -> dict[bench.Key, dict[int, np.ndarray]]:
    return bench.read_table(made_up())


def test_the_table_is_the_whole_grid(table: dict[bench.Key, dict[int, np.ndarray]]) -> None:
    assert len(table) == np.prod([len(values) for values in GRID.values()])
    assert all(list(epochs) == list(range(1, EPOCHS + 1)) for epochs in table.values())
    first = table[tuple(values[0] for values in GRID.values())][1]
    assert first.tolist() == [[pytest.approx(0.33), 0.3, 1], [pytest.approx(0.43), 0.6, 1]]


def test_the_committed_table_is_of_this_grid() -> None:
    path = bench.RESULTS / "search-trajectories.csv"
    recorded = bench.read_table(pd.read_csv(path, keep_default_na=False))
    assert recorded.keys() == set(itertools.product(*GRID.values()))
    assert all(list(epochs) == list(range(1, EPOCHS + 1)) for epochs in recorded.values())
    correct = np.concatenate([p[:, 0] for epochs in recorded.values() for p in epochs.values()]) * bench.VAL_IMAGES
    assert np.abs(correct - correct.round()).max() < 1e-3
    assert path.stat().st_size < 1_000_000


def test_every_way_pays_per_epoch_and_counts_what_it_says(table: dict[bench.Key, dict[int, np.ndarray]]) -> None:
    last, every = (list(itertools.islice(bench.random_search(table, 0, e), 3 * EPOCHS)) for e in (False, True))
    assert [len(p) for p in last] == ([0] * (EPOCHS - 1) + [2]) * 3 and all(len(p) == 2 for p in every)
    assert all((a == b).all() for a, b in zip(last, every, strict=True) if len(a))  # the same settings
    told = list(itertools.islice(bench.tpe_search(table, 0, False), 3 * EPOCHS))
    assert [len(p) for p in told] == [len(p) for p in last]


def test_hypervolume_rises_to_that_of_all_points(table: dict[bench.Key, dict[int, np.ndarray]]) -> None:
    everything = (points for epochs in table.values() for points in epochs.values())
    curve = bench.replay(everything, SPACE.goal, 10**6)
    assert (np.diff(curve) >= 0).all() and len(curve) == len(table) * EPOCHS
    assert curve[-1] == SPACE.goal.hypervolume(np.concatenate([p for e in table.values() for p in e.values()]))
    assert bench.replay(iter([np.array([[0.5, 0.5, 0]])]), Goal(), 5).tolist() == [0.25]


@pytest.mark.slow
def test_trajectory_search_is_repeatable_and_stops(table: dict[bench.Key, dict[int, np.ndarray]]) -> None:
    spent = 14 * EPOCHS
    runs = [list(itertools.islice(bench.trajectory_search(table, 3, stop), spent)) for stop in (True, True, False)]
    assert all((a == b).all() for a, b in zip(runs[0], runs[1], strict=True))
    trials = [sum(p[0, 2] == 1 for p in run) for run in runs]
    assert trials[0] > trials[2] == 14  # stopped ones leave room for more


def test_differences_are_paired_by_seed_and_read_off_the_curves() -> None:
    rng = np.random.default_rng(0)
    base = 0.5 + rng.normal(0, 0.1, size=(20, 1)) + np.zeros((20, bench.BUDGET))  # large noise, but the same for all
    ours = {OURS[0]: base + rng.normal(0, 0.001, base.shape), OURS[1]: base - 0.05}
    shares = dict.fromkeys(bench.WAYS, base - 0.02) | ours
    found = bench.paired(shares)
    assert set(found["epochs"]) == {*map(str, bench.READ_AT), "all"} and len(found) == 2 * 5 * 4
    better = found[(found["way"] == OURS[0]) & (found["against"] == "random, last epoch")]
    assert better["difference"].tolist() == pytest.approx([0.02] * 4, abs=0.002)
    assert (better["low"] > 0.018).all() and (better["low"] < better["difference"]).all()
    assert found[(found["way"] == OURS[1]) & (found["against"] == OURS[0])]["high"].max() < 0

    curves = bench.mean_curves(shares)
    assert curves["epochs"].max() == bench.BUDGET and (curves["low"] <= curves["high"]).all()
    text = page.verdict("Facts.", found, curves)
    alike, counted = text.split("## Against methods that count last epochs only")
    assert text.startswith("Facts. ") and " 36 different intervals " in alike and "about 2 would" in alike
    assert f"- `{OURS[0]}` is ahead of random, every epoch (after 60 epochs); " in alike and "last epoch" not in alike
    assert f"- `{OURS[0]}` is ahead of random, last epoch (after 60 epochs); " in counted
    assert (
        f"- `{OURS[0]}` is behind no other method." in alike and f"- `{OURS[1]}` is ahead of no other method." in alike
    )
    assert all("budgets 4 of 4 comparisons show" in part for part in (alike, counted))
    assert "- Stopping loses: -5.0" in alike and "the counting alone adds on average over all budgets +0.00" in counted


@pytest.mark.parametrize(("gain", "word"), [(0.0, "gains nothing"), (0.01, "gains something"), (-0.01, "loses")])
def test_what_stopping_is_worth_follows_from_its_intervals(gain: float, word: str) -> None:
    shares = dict.fromkeys(bench.WAYS, np.full((20, bench.BUDGET), 0.5))
    noise = np.linspace(-0.001, 0.001, 20)[:, None]
    found = bench.paired(shares | {OURS[1]: shares[OURS[1]] + noise + gain})
    assert f"- Stopping {word}: " in page.verdict("", found, bench.mean_curves(shares))


def test_the_committed_verdict_follows_from_the_committed_numbers() -> None:
    assert bench.page() == Path(bench.RESULTS / "search.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_committed_curves_are_those_of_the_committed_table() -> None:
    """Of the ways without a model: theirs are quick to replay, and all use the table, the seeds and the counting."""
    ways = ["random, last epoch", "random, every epoch"]
    recorded = bench.read_table(pd.read_csv(bench.RESULTS / "search-trajectories.csv", keep_default_na=False))
    made = bench.mean_curves(bench.run_all(recorded, ways))
    kept = pd.read_csv(bench.RESULTS / "search.csv")
    kept = kept[kept["way"].isin(ways)].reset_index(drop=True)
    assert kept["epochs"].max() == bench.BUDGET
    pd.testing.assert_frame_equal(made, kept, check_dtype=False, rtol=0, atol=2e-6)

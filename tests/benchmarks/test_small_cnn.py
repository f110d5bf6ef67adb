"""The small CNN's benchmark: its committed table is whole, and the stages that it takes over learn nothing."""

from __future__ import annotations

import pandas as pd
import torch

import small_cnn as bench
from dmpo_explore.course.small_cnn import EarlyExitCNN, Images


def test_every_arm_has_five_seeds_and_all_its_exits() -> None:
    table = pd.read_csv(bench.RESULTS)
    arms = table.groupby(["network", "arm", "early", "epochs"])
    assert (arms["seed"].nunique() == 5).all()
    exits = arms["exit"].unique().map(sorted)
    assert set(map(tuple, exits)) == {(6,), (1, 2, 3, 4, 5, 6)}
    assert set(table.loc[table["arm"] == "six exits", "early"]) == set(bench.EARLY_WEIGHTS)
    assert table["accuracy"].between(0.05, 0.95).all()


def test_stages_that_are_taken_over_learn_nothing() -> None:
    data = Images(torch.randn(100, 1, 8, 8), torch.arange(100) % 10)
    source = bench.trained(data, [5], seed=0, epochs=1)
    net: EarlyExitCNN = bench.on_frozen(data, source, 3, [5], seed=0)
    kept = [
        all(torch.equal(a, b) for a, b in zip(mine.state_dict().values(), old.state_dict().values(), strict=True))
        for mine, old in zip(net.stages, source.stages, strict=True)
    ]
    assert kept == [True] * 3 + [False] * 3

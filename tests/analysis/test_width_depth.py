"""The width × depth plane: `width_depth`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.width_depth import best_buys, width_depth

HALF = tuple(60.0 + 100.0 * k for k in range(1, 5))  # FLOPs of a slimmed run's exits


def records(seed: int, split: str) -> dict[str, dx.ExitRecord]:
    return {
        "wide": make_record(300, seed=seed, split=split),
        "slim": make_record(300, seed=seed + 1, split=split, flops=HALF),
    }


def test_rows_are_policies_fitted_on_one_record_and_read_on_the_other() -> None:
    chosen, read = records(0, "calibration"), records(10, "test")
    table = width_depth(chosen, read, points=8)
    assert table["budget"].is_monotonic_increasing and set(table["run"]) == {"wide", "slim"}
    for row in table.itertuples():
        outcome = dx.apply(dx.fit_policy(chosen[row.run], threshold=row.threshold), read[row.run])
        assert row.accuracy == outcome.summary()["accuracy"]
        assert np.isclose(row.gflops, outcome.summary()["flops_fraction"] * 1000 / 1e9)


def test_the_front_is_chosen_on_the_first_records() -> None:
    chosen = records(0, "calibration")
    table = width_depth(chosen, chosen, points=10)  # read where it was chosen: a plain Pareto front
    best = -1.0
    for row in table.itertuples():  # from the smallest budget on
        assert row.front == (row.accuracy > best)
        best = max(best, row.accuracy)
    assert table["front"].any() and not table["front"].all()


def test_stretches_follow_each_other() -> None:
    rows = [("slim", 0.1, True), ("wide", 0.2, False), ("slim", 0.3, True), ("wide", 0.4, True), ("wide", 0.6, True)]
    buys = best_buys(pd.DataFrame(rows, columns=["run", "budget", "front"]))
    assert buys.to_numpy().tolist() == [["slim", 0.1, 0.4], ["wide", 0.4, 0.6]]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda: width_depth(records(0, "calibration"), {"wide": make_record()}),
            r"not \['wide', 'slim'\] and \['wide'\]",
        ),
        (lambda: width_depth({}, {}), "give the same runs"),
    ],
)
def test_other_runs_to_read_are_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()

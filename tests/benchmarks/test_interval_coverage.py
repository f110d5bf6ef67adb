"""The simulation of intervals: it simulates what it states, and its table is complete and read as it is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

import interval_coverage
from _common.results import RESULTS

TABLE = pd.read_csv(RESULTS / "interval_coverage.csv")


@pytest.mark.parametrize("kind", interval_coverage.KINDS)
def test_differences_have_the_stated_spread_and_no_mean(kind: str) -> None:
    """The variance of a training's mean is 1 + spread² squared errors over images; common images do not average out."""
    generator, S, B = np.random.default_rng(0), 2, 400
    draws = np.stack([interval_coverage.KINDS[kind](generator, S, 2.0, 0.0, B) for _ in range(1000)])  # (n, S, B)
    means = draws.mean(axis=2)
    error = draws.var() / B
    assert abs(means.mean()) < 5 * (means.var() / 2000) ** 0.5
    assert means.var() / error == pytest.approx(5, rel=0.25)
    shared = np.stack([interval_coverage.KINDS[kind](generator, S, 0.0, 1.0, B) for _ in range(50)])
    assert (shared[:, 0] == shared[:, 1]).all()


def test_a_row_counts_how_often_an_interval_holds_0(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, none = (lambda values: (0.0, -1e9, 1e9)), (lambda values: (1.0, 1.0, 1.0))
    monkeypatch.setattr(interval_coverage, "INTERVALS", {"wide": (wide, 20), "none": (none, 10)})
    rows = pd.DataFrame(interval_coverage.covered("normal", 3, 1.0, 0.5, B=10)).set_index("interval")
    assert rows["coverage"].tolist() == [1, 0] and rows["repeats"].tolist() == [20, 10]


def test_the_interval_in_use_covers_and_the_former_ones_do_not() -> None:
    cases = set(product(*(getattr(interval_coverage, name) for name in ("KINDS", "SEEDS", "SPREADS", "COMMON"))))
    for _, rows in TABLE.groupby("interval"):
        assert {*rows[["kind", "seeds", "spread", "common"]].itertuples(index=False, name=None)} == cases
    used = TABLE[TABLE["interval"] == "crossed"]
    assert (used["repeats"] == 4000).all() and used["coverage"].between(0.93, 0.995).all()
    few = TABLE[(TABLE["seeds"] == 3) & (TABLE["spread"] == 4)].groupby("interval")["coverage"].max()
    assert few["resampled"] < 0.85 and few["images"] < 0.7


@pytest.mark.parametrize("S", interval_coverage.SEEDS)
def test_the_evidence_has_the_ends_of_every_interval(S: int) -> None:
    ends = TABLE[TABLE["seeds"] == S].groupby("interval")["coverage"].agg(["min", "max"]) * 100
    cells = (f"{ends.loc[name, 'min']:.1f} – {ends.loc[name, 'max']:.1f}" for name in interval_coverage.INTERVALS)
    page = (RESULTS.parent / "EVIDENCE.md").read_text(encoding="utf-8")
    assert f"| {S} | {' | '.join(cells)} |" in page

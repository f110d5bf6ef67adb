"""Budgets on streams that change: held thresholds keep the compute that frozen ones do not."""

from __future__ import annotations

import pandas as pd

import hold_budget as benchmark
from _common.results import RESULTS


def test_held_thresholds_keep_the_compute_of_calibration() -> None:
    table = benchmark.shops_table(streams=2)
    compute = table.set_index(["images", "arm"])["flops_fraction"]
    held, frozen = (
        compute["the other shops", how] - compute["the same shops", how]
        for how in ("bound, held, window 100", "bound, frozen")
    )
    assert abs(held) < 0.05 and frozen > 0.1
    assert len(benchmark.lines_of(table)) == 2 + 2 * 5


def test_the_page_says_on_how_many_corruptions_the_bound_breaks() -> None:
    table = pd.read_csv(RESULTS / "hold-budget.csv")
    assert "\n".join(benchmark.lines_of(table)) in benchmark.PAGE.read_text(encoding="utf-8")
    corrupted = table[table["images"].str.contains("strength")].set_index("arm")["too_early"] > benchmark.EPSILON
    frozen, held = (int(corrupted[arm].sum()) for arm in ("bound, frozen", "bound, held"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    of = len(corrupted["bound, held"])
    assert f"on {frozen} of {of} corruptions" in page and f"(10.8 %) and on {held} of {of}." in page

"""Budgets on streams that change: held thresholds keep the compute that frozen ones do not."""

from __future__ import annotations

import hold_budget as benchmark


def test_held_thresholds_keep_the_compute_of_calibration() -> None:
    table = benchmark.shops_table(streams=2)
    compute = table.set_index(["images", "arm"])["flops_fraction"]
    held, frozen = (
        compute["the other shops", how] - compute["the same shops", how]
        for how in ("bound, held, window 100", "bound, frozen")
    )
    assert abs(held) < 0.05 and frozen > 0.1
    assert len(benchmark.lines_of(table)) == 2 + 2 * 5

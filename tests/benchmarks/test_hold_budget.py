"""Budgets on streams that change: held thresholds keep the compute that frozen ones do not."""

from __future__ import annotations

import pytest

import hold_budget as benchmark


def test_held_thresholds_keep_the_compute_of_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LENGTH", 600)
    table = benchmark.shops_table(streams=3)
    compute = table.set_index(["images", "arm"])["flops_fraction"]
    away = [
        compute["the other shops", f"bound, {how}"] - compute["the same shops", f"bound, {how}"]
        for how in ("held", "frozen")
    ]
    assert abs(away[0]) < 0.06 < away[1]
    assert len(benchmark.lines_of(table)) == 2 + len(table)

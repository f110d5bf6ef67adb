"""benchmarks/app.py: its quantiles, and each part in Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import app as bench
from _app.server import serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_quantiles_of_moves() -> None:
    assert bench.quantiles("x", list(range(101))) == {"x, p50 ms": 50.0, "x, p95 ms": 95.0, "x, moves": 101}


@pytest.mark.slow
def test_the_parts_run(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [(2_000, 6, "test"), (2_100, 12, "test")]
    monkeypatch.setattr(bench, "SIZES", dict(zip(bench.SIZES, small, strict=True)))
    for size in small:
        bench.make_run(tmp_path, *size)
    with serve(tmp_path) as server:
        figures = bench.drag(browser, server, 2000, 0.5) | bench.release(browser, server, "10,000 × 6", 2)
        figures |= bench.key(browser, server, "10,000 × 6", 2)
        readers = [bench.path_of(size) for size in bench.SIZES]
        figures |= bench.sessions(browser, server, readers, 2.0)
    assert figures["drag 2,000 tiles, messages"] == figures["sessions, errors"] == 0
    assert figures["release 10,000 × 6, moves"] == figures["key 10,000 × 6, moves"] == 2
    assert 2**-4 < figures["sessions, server GiB"] < 8
    assert figures["sessions, moves"] >= 2 and figures["sessions, answer there, p50 ms"] > 1
    assert all(np.isfinite(value) for value in figures.values())
    assert all(value >= 0 for value in figures.values())


def test_a_move_without_an_answer_is_an_error(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.make_run(tmp_path, 300, 4, "test")
    monkeypatch.setattr("_app.sessions.PATIENCE", 0.0)
    with serve(tmp_path) as server:
        figures = bench.sessions(browser, server, ["?run=made-up-300x4&split=test"], 0.5)
    assert figures["sessions, errors"] == figures["sessions, moves unanswered"] >= 1
    assert figures["sessions, moves"] == 0 and figures["sessions, p95 ms"] == float("inf")

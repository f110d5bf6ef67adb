"""Accuracy over milliseconds: the page's table, and what is made of the rounds."""

from __future__ import annotations

import pandas as pd

import milliseconds
from _common.timing import Timing


def test_the_page_shows_what_was_measured() -> None:
    table = pd.read_csv(milliseconds.RESULTS / "milliseconds.csv")
    assert "\n".join(milliseconds.lines_of(table)) in milliseconds.PAGE.read_text(encoding="utf-8")
    for _, rows in table[table["budget"].notna()].groupby("model"):
        assert rows["share"].is_monotonic_increasing and rows["ms"].is_monotonic_increasing
    assert ((table["lowest"] <= table["ms"]) & (table["ms"] <= table["highest"])).all()


def test_times_are_ratios_within_a_round() -> None:
    slow, quick = Timing(rounds=[2.0, 4.0, 8.0]), Timing(rounds=[1.0, 2.0, 2.0])
    found = milliseconds._times(quick, slow, 10)
    assert found == {"ms": 200.0, "lowest": 100.0, "highest": 200.0, "times": 2.0}

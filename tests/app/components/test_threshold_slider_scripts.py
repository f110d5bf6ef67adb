"""The slider's scripts by themselves: they count and write numbers as Python does, and load nothing."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dmpo_explore_app.components import threshold_slider
from dmpo_explore_app.components.threshold_slider.supplies import HERE, PARTS

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_it_writes_numbers_as_python_does(browser: Browser) -> None:
    """Ties included: both round half to even, on the exact binary value."""
    rng = random.Random(0)
    values = [k / 400 for k in range(401)] + [k / 2048 for k in range(300)] + [rng.random() for _ in range(300)]
    values += [1.005, 0.285, 2.675, 1.115, 0.125, 1e-9, 1.02345]
    page = browser.new_page()
    code = (HERE / "numbers.js").read_text(encoding="utf-8")
    found = page.evaluate(
        f"values => {{ {code}; return values.map(v => [percent(v, 1), percent(v, 2), fixed(v, 2)]) }}", values
    )
    saved = page.evaluate(f"() => {{ {code}; return [0, -0.0004, -0.0283, 0.758].map(v => signed(v, 1)) }}")
    page.close()
    assert saved == ["0.0%", "0.0%", "−2.8%", "75.8%"]
    assert found == [[f"{v:.1%}", f"{v:.2%}", f"{v:.2f}"] for v in values]


def test_it_counts_as_summarise_does(browser: Browser, runs: Path) -> None:
    record = dx.load_run("six").record("test")
    exits = dx.fit_policy(record, threshold=0.7).exits(record)
    row = np.bincount(2 * exits + (record.prediction[np.arange(record.n_images), exits] != record.labels), minlength=12)
    page = browser.new_page()
    code = (HERE / "numbers.js").read_text(encoding="utf-8")
    found = page.evaluate(
        f"([row, costs]) => {{ {code}; return numbersOf(row, costs) }}", [row.tolist(), record.flops_fraction.tolist()]
    )
    page.close()
    s = dx.summarise(record, exits)
    wanted = {"images": 600, "accuracy": s["accuracy"], "compute": s["flops_fraction"], "mean": s["mean_exit"]}
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, abs=1e-12)
    assert found["first"] == round(600 * s["exit_shares"][0])


def test_it_needs_nothing_from_elsewhere() -> None:
    """Plain files of our own: no address but SVG's namespace, no import, no HTML from data."""
    texts = [
        (HERE / name).read_text(encoding="utf-8")
        for name in (*PARTS, "loader.js", "drawing.js", "slider.css", "slider.html")
    ]
    assert re.findall(r"https?://[^\"'\s]+", "".join(texts)) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"^\s*import|innerHTML|@import|url\((?!#)", "".join(texts), re.M)
    assert threshold_slider.__doc__

"""Own scores in Chromium: a reader opens a folder."""

from __future__ import annotations

import re
from pathlib import Path

from made_up import HOSTILE
from playwright.sync_api import expect
from synthetic import make_record
from visiting import Visit


def test_a_reader_opens_a_folder(visit: Visit, tmp_path: Path) -> None:
    name = "<b>bold<b> & 'co'"
    folder = tmp_path / name
    make_record(120, class_names=(HOSTILE, "b", "c", "d", "e"), model=HOSTILE).save(folder)
    (folder / "labels.npy").rename(folder / "kept")
    page = visit.show("own-scores", "textarea, input")
    box = page.get_by_label("Record folder", exact=True)
    box.fill(str(folder))
    box.press("Enter")
    expect(page.get_by_text("One thing keeps this folder from being a record")).to_be_visible()
    assert "labels.npy is missing" in page.get_by_role("alert").inner_text()
    assert name in page.locator(".stMain").inner_text()
    (folder / "kept").rename(folder / "labels.npy")
    visit.settle_on("[role=alert]")
    page.locator("h1").click()
    page.keyboard.press("r")
    page.wait_for_selector("[data-testid=stMetric]")
    visit.settle_on("[data-testid=stMetric]")
    before = page.get_by_test_id("stMetricValue").all_inner_texts()
    slider = page.get_by_role("slider", name=re.compile("Threshold"))
    slider.focus()
    slider.press("End")
    expect(page.get_by_test_id("stMetricValue").nth(2)).to_have_text("4.00")
    assert page.get_by_test_id("stMetricValue").all_inner_texts() != before
    assert HOSTILE in page.get_by_test_id("stAlert").inner_text() and page.evaluate("() => window.hacked") is None

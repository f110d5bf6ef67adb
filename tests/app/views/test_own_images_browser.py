"""Data in Chromium: a reader checks a folder and mends it."""

from __future__ import annotations

from pathlib import Path

from image_files import BROKEN, clean_folder
from playwright.sync_api import expect
from visiting import Visit, violations


def test_a_reader_checks_a_folder_and_mends_it(visit: Visit, tmp_path: Path) -> None:
    own = clean_folder(tmp_path / "photos")
    whole = (own / BROKEN[0]).read_bytes()
    (own / BROKEN[0]).write_bytes(whole[:200])
    page = visit.show("data?data=digits", ".js-plotly-plot", ".dx-contact li")
    page.get_by_role("combobox", name="Images").click()
    page.get_by_role("option", name="a folder of mine").click()
    box = page.get_by_label("Folder or table of images", exact=True)
    box.fill(str(own))
    box.press("Enter")
    expect(page.get_by_text("Stops a training")).to_be_visible()
    assert BROKEN[0] in page.get_by_role("alert").first.inner_text() and "photos" not in page.url
    (own / BROKEN[0]).write_bytes(whole)
    page.locator("h1").click()
    page.keyboard.press("r")
    expect(page.get_by_text("A training can start on these images.")).to_be_visible()
    visit.settle_on(".js-plotly-plot", ".dx-contact li")
    assert page.locator(".dx-contact img").count() == 12
    assert not violations(visit)

"""The page Decide as its reader uses it, in Chromium."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from decide_page import expected
from playwright.sync_api import expect
from visiting import Visit, new_visit

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TABLE = "document.querySelector('[data-testid=stTable]').innerText"


@pytest.mark.slow
def test_a_reader_compares(visit: Visit, browser: Browser) -> None:
    page = visit.show("compare?runs=four,six&against=six&compute=50", ".dx-pairs li", "table")
    assert "/decide?" in page.url  # where an old link leads
    table = page.get_by_test_id("stTable").first
    before, pictures = table.inner_text(), page.locator(".dx-pairs li").first.get_attribute("title")
    number = page.get_by_role("spinbutton", name="Budget")
    number.fill("5.1e-7")
    number.press("Enter")
    page.wait_for_function(f"text => {TABLE} !== text", arg=before)
    visit.settle_on("table")
    cells = [cell for row in evaluate_rows(visit, ["four", "six"], 0.51, expected).values() for cell in row]
    assert len(cells) == 4 and all(cell in table.inner_text() for cell in cells)
    assert "gflops=5.1e-07" in page.url
    page.get_by_role("radio", name=re.compile("Only B correct")).click()
    expect(page.locator(".dx-pairs li").first).not_to_have_attribute("title", str(pictures))
    visit.settle_on("table")
    after, link = table.inner_text(), page.url.removeprefix(visit.server.address)
    assert "show=only" in link

    page.go_back()
    expect(page.get_by_role("radio", name=re.compile("Only A correct"))).to_be_checked()
    visit.settle_on("table")
    page.go_back()
    page.wait_for_function(f"text => {TABLE} === text", arg=before)

    with new_visit(browser, visit.server) as other:
        other.show(link, ".dx-pairs li", "table")
        assert other.page.get_by_test_id("stTable").first.inner_text() == after
        assert other.page.get_by_role("radio", name=re.compile("Only B correct")).is_checked()


def evaluate_rows(visit: Visit, names: list[str], budget: float, read: Callable[..., Any] = list) -> Any:
    """The library's numbers for the server's runs, read while these are found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(visit.server.runs))
        return read(evaluate_runs(names, targets=dx.Target.flops(budget), against=names[-1]))


@pytest.mark.slow
def test_files_arrive(visit: Visit) -> None:
    page = visit.show("compare?runs=four,six&against=six&compute=50", ".dx-pairs li", "table")
    page.get_by_role("button", name="Share").click()
    contents = {}
    for label in ("Comparison · CSV", "Thresholds of four · JSON", "Trade-off · HTML"):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        contents[label] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename.startswith("decide-test-")
    rows = evaluate_rows(visit, ["four", "six"], 0.5)
    table = pd.read_csv(io.BytesIO(contents["Comparison · CSV"]))
    assert table["accuracy"].tolist() == [row["accuracy"] for row in rows]
    assert table["low"].tolist() == [row["against"]["low"] for row in rows]
    assert json.loads(contents["Thresholds of four · JSON"])["thresholds"] == [rows[0]["threshold"]]
    assert b"Plotly.newPlot" in contents["Trade-off · HTML"]

"""The header in Chromium: it is small, it is there on every page, and its exits fill while the thumb moves."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page
from visiting import Visit

import dmpo_explore as dx


def shares(page: Page) -> list[str]:
    return page.locator(".dx-network small").all_inner_texts()


def test_the_exits_fill_while_the_thumb_moves(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8")
    before, asked = shares(page), page.evaluate("() => window.lastAsked")
    thumb = page.get_by_role("slider", name="Threshold")
    box = thumb.bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] - 400, box["y"] + 5)
    page.wait_for_function("text => document.querySelector('.dx-network').innerText !== text", arg="\n".join(before))
    threshold = float(page.locator(".threshold-slider").get_attribute("data-threshold") or "nan")
    record = dx.load_run(visit.server.runs / "four").record("test")
    wanted = dx.summarise(record, dx.policies.ConfidencePolicy((threshold,)).exits(record))["exit_shares"]
    assert shares(page) == [f"{s:.0%}" if s >= 0.1 or not s else f"{s:.1%}" for s in wanted] != before
    assert page.evaluate("() => window.lastAsked") == asked  # nothing was sent
    page.mouse.up()
    visit.settle()
    label = page.locator(".dx-network").get_attribute("aria-label") or ""
    assert re.findall(r"exit \d ([\d.]+%)", label) == shares(page)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["image?run=four&image=3", "training?run=demo"])
def test_it_is_small_on_every_screen(visit: Visit, path: str) -> None:
    page = visit.show(path, ".dx-network")
    height = "() => document.querySelector('.st-key-app_header').getBoundingClientRect().height"
    assert page.evaluate(height) <= 90
    for width, most in ((800, 70), (400, 56)):
        page.set_viewport_size({"width": width, "height": 900})
        visit.settle_on(".dx-network")
        assert page.evaluate(height) <= most
        inside = "() => [...document.querySelectorAll('.st-key-app_header *')]"
        assert page.evaluate(f"{inside}.every(e => e.getBoundingClientRect().right <= innerWidth)")
        brand, network = (page.locator(part).bounding_box() for part in (".dx-brand b", ".dx-network"))
        assert brand and network and brand["x"] + brand["width"] <= network["x"]

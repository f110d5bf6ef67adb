"""The header in Chromium: brand, navigation, title and runs are one line on a wide screen, and small on others."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from visiting import Visit

PARTS = (".dx-brand", "[data-testid=stHeader]", ".stMain h1", ".st-key-app_header button")


@pytest.mark.parametrize("path", ["?run=four", "image?run=four&image=3", "compare?runs=four,six", "own-scores"])
def test_brand_navigation_title_and_runs_are_one_line(visit: Visit, path: str) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 720})
    page = visit.show(path)
    boxes = [box for part in PARTS if (box := page.locator(part).first.bounding_box())]
    assert len(boxes) == 4 and all(box["y"] >= 0 and box["y"] + box["height"] <= 60 for box in boxes)
    links = page.locator("[data-testid=stTopNavLink]").last.bounding_box()
    title = boxes[2]
    assert links and links["x"] + links["width"] <= title["x"]
    assert title["x"] + title["width"] <= boxes[3]["x"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["image?run=four&image=3", "training?run=demo"])
def test_it_is_small_on_every_screen(visit: Visit, path: str) -> None:
    page = visit.show(path)
    for width in (800, 400):
        page.set_viewport_size({"width": width, "height": 900})
        visit.settle_on(".st-key-app_header")
        header = page.locator(".st-key-app_header").bounding_box()
        assert header and header["height"] <= 56
        inside = "() => [...document.querySelectorAll('.st-key-app_header *')]"
        assert page.evaluate(f"{inside}.every(e => e.getBoundingClientRect().right <= innerWidth)")


def test_the_outline_of_a_page_stands_until_its_heading_does(visit: Visit) -> None:
    page, poster, busy = visit.page, visit.page.locator("#poster"), [True]
    page.route_web_socket("**/_stcore/stream*", lambda socket: busy or socket.connect_to_server())
    page.goto(visit.server.address)
    expect(poster).to_be_visible()
    busy.clear()
    page.reload()
    expect(page.locator(".stMain h1")).to_be_visible()
    expect(poster).to_be_hidden()

"""Every page on every screen, in Chromium: no serious violation of accessibility rules, a phone's width, one header."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from visiting import BACKGROUND, Server, Visit, new_visit, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser


PAGES = {
    "explore": ("?run=four&threshold=0.8&image=5", ".drawer img"),
    "classes": ("?run=four&threshold=0.8&view=classes", ".dx-heat"),
    "confusion": ("?run=four&threshold=0.8&view=confusion", ".matrix td"),
    "map": ("?run=four&threshold=0.8&view=map", ".map-labels span"),
    "gallery": ("?run=four&threshold=0.8&view=images&image=5", ".dx-gallery li"),
    "decide": ("compare?runs=four,six,one&against=six&compute=50", ".dx-pairs li"),
    "live": ("live?run=four", ".st-key-begin button"),
    "one image": ("image?run=four&image=5", ".dx-near li"),
    "one image of yours": ("image?run=four&source=file", ".stFileUploader"),
    "own scores": ("own-scores", "[data-testid=stCode]"),
    "data": ("data?data=digits", ".dx-contact li"),
    "training": ("training?run=demo", ".js-plotly-plot"),
    "no such run": ("?run=nope", ".tabs"),
}


def look(visit: Visit) -> None:
    """No serious violation at rest, light and dark: an open page follows the system's scheme."""
    for scheme, colour in BACKGROUND.items():
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        expect(visit.page.locator(".stApp")).to_have_css("background-color", colour)
        visit.settle_on("h1")
        found = violations(visit)
        assert not found, f"{scheme}:\n" + "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_serious_violation(visit: Visit, page: str) -> None:
    visit.show(*PAGES[page])
    look(visit)


@pytest.mark.slow
def test_an_opened_record_and_the_share_popover(visit: Visit) -> None:
    page = visit.show("own-scores", "[data-testid=stCode]")
    page.get_by_role("button", name="Try it with a bundled record").click()
    page.get_by_role("button", name="Open in Explore").wait_for()
    look(visit)
    page.get_by_role("button", name="Open in Explore").click()
    page.wait_for_selector(".tabs")
    visit.settle()
    page.get_by_role("button", name="Share").click()
    page.wait_for_selector("[data-testid=stDownloadButton]")
    look(visit)


def test_axe_finds_what_is_wrong(browser: Browser, server: Server) -> None:
    """The check can fail: grey on grey and a picture without words."""
    with new_visit(browser, server) as visit:
        visit.page.set_content(
            "<html lang=en><title>t</title><main><h1>h</h1><p style='color:#aaa;background:#bbb'>some words</p>"
            "<img src='data:,'></main>"
        )
        rules = {line.split()[0] for line in violations(visit)}
    assert rules == {"color-contrast", "image-alt"}


ON_A_PHONE = {  # path → what must be there
    "?run=four&threshold=0.8": ".head",
    "?run=four&threshold=0.8&view=images": ".dx-gallery li",
    "compare?runs=four,six": ".dx-pairs li",
    "image?run=four&image=3": ".dx-near li",
    "live?run=four": ".st-key-begin button",
    "data?data=digits": ".dx-contact li",
    "training?run=demo": ".st-key-learning_panels .js-plotly-plot",
    "own-scores": "[data-testid=stCode]",
}
FIRST = {  # path → what the page is about, and how far below the top it may end
    "?run=four&threshold=0.8": {".track": 400, ".cards": 520},
    "live?run=four": {".track": 400, ".cards": 750, ".st-key-begin button": 850},
    "image?run=four&image=3": {".st-key-halves img": 650},
    "compare?runs=four,six": {".st-key-question": 400, ".dx-answer": 700},
}
PHONE = {"width": 400, "height": 800}
SCROLLED = (
    """() => [document.documentElement, document.querySelector('.stMain')].every(e => e.scrollWidth <= innerWidth)"""
)
CUT = """() => [...document.querySelectorAll('.stMain [data-testid=stButtonGroup] > div')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
UNEVEN = """() => [...document.querySelectorAll('.stMain [data-testid=stPopoverButton]')].filter(button => {
    const words = button.querySelector('p').getBoundingClientRect(), box = button.getBoundingClientRect();
    return box.width > 0 && box.right - words.right < 8;
}).map(button => button.textContent)"""


@pytest.mark.slow
@pytest.mark.parametrize("path", ON_A_PHONE)
def test_a_page_fits_a_phone(visit: Visit, path: str) -> None:
    """No scrolling sideways, no choice cut off, a popover's words off its border; what it is about comes first."""
    visit.page.set_viewport_size(PHONE)
    page = visit.show(path, ON_A_PHONE[path])
    assert page.evaluate(SCROLLED)
    assert page.evaluate(CUT) == page.evaluate(UNEVEN) == []
    for selector, most in FIRST.get(path, {}).items():
        box = page.locator(selector).first.bounding_box()
        assert box and box["y"] + box["height"] <= most, selector


PARTS = (".dx-brand", "[data-testid=stHeader]", ".stMain h1", ".st-key-app_header button")


@pytest.mark.parametrize("path", ["image?run=four&image=3", "compare?runs=four,six"])
def test_brand_navigation_title_and_runs_are_one_line_and_small_on_every_screen(visit: Visit, path: str) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 720})
    page = visit.show(path)
    boxes = [box for part in PARTS if (box := page.locator(part).first.bounding_box())]
    assert len(boxes) == 4 and all(box["y"] >= 0 and box["y"] + box["height"] <= 60 for box in boxes)
    links = page.locator("[data-testid=stTopNavLink]").last.bounding_box()
    title = boxes[2]
    assert links and links["x"] + links["width"] <= title["x"]
    assert title["x"] + title["width"] <= boxes[3]["x"]
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

"""No serious or critical violation of accessibility rules on any page, light and dark: axe-core looks at them."""

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

"""No serious or critical violation of accessibility rules on any page, light and dark: axe-core looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe import violations
from visiting import Server, Visit, new_visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = {
    "explore": ("?run=four&threshold=0.8", ".dx-gallery li"),
    "compare": ("compare?runs=four,six,one&against=six&compute=50", ".dx-pairs li"),
    "live": ("live?run=four", ".st-key-begin button"),
    "one image": ("image?run=four&image=5", ".dx-near li"),
    "one image of yours": ("image?run=four&source=file", ".stFileUploader"),
    "own scores": ("own-scores", "[data-testid=stCode]"),
    "data": ("data?data=digits", ".dx-contact li"),
    "training": ("training?run=demo", ".js-plotly-plot"),
    "no such run": ("?run=nope", ".dx-gallery li"),
}
SCHEMES = ["light", pytest.param("dark", marks=pytest.mark.slow)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_serious_violation(visit: Visit, page: str, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    path, selector = PAGES[page]
    visit.show(path, selector)
    found = violations(visit)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_opened_record_and_the_share_popover(visit: Visit, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    page = visit.show("own-scores", "[data-testid=stCode]")
    page.get_by_role("button", name="Try it with a bundled record").click()
    page.get_by_role("button", name="Open in Explore").wait_for()
    visit.settle_on("h1")
    assert not violations(visit)
    page.get_by_role("button", name="Open in Explore").click()
    page.wait_for_selector(".dx-gallery li")
    visit.settle()
    page.get_by_role("button", name="Share").click()
    page.wait_for_selector("[data-testid=stDownloadButton]")
    found = violations(visit)
    assert not found, "\n".join(found)


def test_axe_finds_what_is_wrong(browser: Browser, server: Server) -> None:
    """The check can fail: grey on grey and a picture without words."""
    with new_visit(browser, server) as visit:
        visit.page.set_content(
            "<html lang=en><title>t</title><main><h1>h</h1><p style='color:#aaa;background:#bbb'>some words</p>"
            "<img src='data:,'></main>"
        )
        rules = {line.split()[0] for line in violations(visit)}
    assert rules == {"color-contrast", "image-alt"}

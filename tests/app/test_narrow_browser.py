"""Every page on a phone, in Chromium: nothing is scrolled sideways, and what a page is about is on the first screen."""

from __future__ import annotations

import pytest
from visiting import Visit

PAGES = {  # path → what must be there
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
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone(visit: Visit, path: str) -> None:
    """No scrolling sideways, no choice cut off, a popover's words off its border; what it is about comes first."""
    visit.page.set_viewport_size(PHONE)
    page = visit.show(path, PAGES[path])
    assert page.evaluate(SCROLLED)
    assert page.evaluate(CUT) == page.evaluate(UNEVEN) == []
    for selector, most in FIRST.get(path, {}).items():
        box = page.locator(selector).first.bounding_box()
        assert box and box["y"] + box["height"] <= most, selector

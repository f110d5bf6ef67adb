"""The script of HTML that can be clicked, by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmpo_explore_app.components.clickable import HERE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = """<!doctype html><style>.dx-heat { width: 200px; height: 100px; overflow: auto } td { min-width: 90px }</style>
<div id="here"></div><div style="height: 3000px"></div>"""


def heat(threshold: float, first: int) -> str:
    """A heat map of 40 classes."""
    cells = "".join(f'<td><button data-pick="cell {{0}} {k}">{threshold}</button></td>' for k in range(4))
    rows = "".join(f"<tr>{cells}</tr>".format(row) for row in range(first, first + 40))
    return f'<div class="dx-heat" data-threshold="{threshold}"><table><tbody>{rows}</tbody></table></div>'


def test_a_release_keeps_place_and_focus_and_the_next_page_begins_at_its_top(browser: Browser) -> None:
    code = (HERE / "clickable.js").read_text(encoding="utf-8").replace("export default function", "show = function")
    page = browser.new_page()
    page.set_content(PAGE)
    page.evaluate(f"() => {{ {code} }}")
    draw = """body => show({
        data: {parts: [body]}, parentElement: document.querySelector("#here"), setTriggerValue: () => {}
    })"""
    place = """() => [".dx-heat", "html"].map(box => document.querySelector(box))
        .map(box => [box.scrollLeft, box.scrollTop])"""
    page.evaluate(draw, heat(0.5, 0))
    page.locator("[data-pick='cell 30 2']").focus()
    page.evaluate("() => { document.querySelector('.dx-heat').scrollTo(60, 400); scrollTo(0, 2000) }")
    page.evaluate(draw, heat(0.6, 0))
    assert page.evaluate(place) == [[60, 400], [0, 2000]]  # the curve was dragged, further down
    assert page.locator(":focus").get_attribute("data-pick") == "cell 30 2"
    assert page.locator(":focus").inner_text() == "0.6"
    page.evaluate(draw, heat(0.6, 40))
    assert page.evaluate(place) == [[60, 0], [0, 2000]]
    page.close()

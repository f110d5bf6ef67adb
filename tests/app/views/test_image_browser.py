"""One image in Chromium: from Explore and back, explanations as links, accessibility."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from visiting import Visit, new_visit, violations, wait_for_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUALITY = "[data-testid=stTable]"
pytestmark = pytest.mark.slow  # a model is trained and served


def test_from_explore_to_one_image_and_back(trained: Visit) -> None:
    page = trained.open("?run=tiny&threshold=0.4&view=images")
    page.locator(".dx-gallery button").nth(3).click()
    link = page.get_by_role("button", name="Open in One image")
    link.wait_for()
    wait_for_address(page, "**image=*")
    trained.settle()
    row = image_in(page.url)
    link.click()
    trained.settle_on(".dx-why", ".dx-near li")
    assert "/image?" in page.url and image_in(page.url) == row and "threshold=0.4" in page.url
    assert page.get_by_label("Row", exact=True).input_value() == row

    before = page.locator(".dx-why").inner_text()
    page.locator(".dx-near button").first.click()
    page.wait_for_function("text => (document.querySelector('.dx-why')?.innerText ?? text) !== text", arg=before)
    trained.settle_on(".dx-near li")
    assert image_in(page.url) != row
    page.go_back()
    page.wait_for_function("text => document.querySelector('.dx-why')?.innerText === text", arg=before)


def test_arrow_keys_step_but_not_in_a_text_field(trained: Visit) -> None:
    page = trained.show("image?run=tiny&threshold=0.4&image=3", ".dx-why", ".dx-near li")
    for key, row in (("ArrowRight", "4"), ("ArrowRight", "5"), ("ArrowLeft", "4")):
        page.keyboard.press(key)
        wait_for_address(page, f"**image={row}*")
        trained.settle_on(".dx-near li")
    page.get_by_label("Row", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("radio", name="of the record").focus()  # here they move among the choices
    page.keyboard.press("ArrowRight")
    trained.settle_on(".dx-near li")
    assert image_in(page.url) == "4"


def image_in(address: str) -> str:
    (row,) = parse_qs(urlsplit(address).query)["image"]
    return row


def test_an_explanation_method_by_method_and_as_a_link(trained: Visit, browser: Browser) -> None:
    page = trained.show("image?run=tiny&threshold=0.4&image=3&method=integrated_gradients", ".dx-why", ".dx-near li")
    page.get_by_role("button", name="Explain every exit").click()
    trained.settle_on(".js-plotly-plot")
    page.get_by_text("Can these maps be trusted?").click()
    trained.settle_on(QUALITY)
    assert page.locator(".js-plotly-plot").count() == 1
    choose(page, "Method", "Saliency")
    wait_for_address(page, "**method=saliency**")
    expect(page.locator(QUALITY)).to_have_count(0)  # its maps have no number yet
    page.get_by_role("button", name="Check them by hiding parts").click()
    trained.settle_on(QUALITY)
    shown, link = page.locator(QUALITY).inner_text(), page.url.removeprefix(trained.server.address)
    with new_visit(browser, trained.server) as other:
        other.show(link, ".dx-why", ".js-plotly-plot")
        other.page.get_by_text("Can these maps be trusted?").click()
        other.settle_on(QUALITY)
        assert other.page.locator(QUALITY).inner_text() == shown


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_maps_have_no_serious_violation(trained: Visit, scheme: str) -> None:
    trained.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    trained.show("image?run=tiny&image=3&method=saliency", ".dx-walk", ".js-plotly-plot")
    assert not (found := violations(trained)), "\n".join(found)


def test_maps_on_a_phone_are_scrolled_instead_of_tiny(trained: Visit) -> None:
    trained.page.set_viewport_size({"width": 400, "height": 800})
    page = trained.show("image?run=tiny&image=3&method=saliency", ".dx-walk", ".st-key-scrolled_maps .js-plotly-plot")
    inner = "selector => document.querySelector(selector).clientWidth"
    assert page.evaluate(inner, ".st-key-scrolled_maps .main-svg") >= 700
    assert page.evaluate("() => document.querySelector('.stMain').scrollWidth") <= 400
    assert not (found := violations(trained)), "\n".join(found)

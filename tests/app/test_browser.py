"""The app as its reader uses it, in Chromium."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from made_up import HOSTILE
from playwright.sync_api import expect
from visiting import WATCH, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_slider_moves_numbers_and_pictures(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("?run=four&threshold=0.5")
    numbers, images = visit.numbers(), visit.images()
    assert len(numbers) == 4 and len(images) > 18
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    slider.press("PageUp")
    for number in (0, 1):  # accuracy and compute
        expect(page.get_by_test_id("stMetric").nth(number)).not_to_have_text(numbers[number])
    visit.settle()
    assert "threshold=" in page.url and "threshold=0.5&" not in page.url + "&"
    assert visit.images() != images
    slider.press("End")
    expect(page.get_by_text("Nobody leaves early.")).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").nth(2)).to_have_text("4.00")
    visit.settle()
    assert len(visit.images()) == 18  # all of them at exit 4
    page.screenshot(path=tmp_path / "explore.png")
    assert (tmp_path / "explore.png").stat().st_size > 20_000


def test_pictures_are_really_drawn(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8")
    page.wait_for_function("() => [...document.querySelectorAll('.dx-gallery img')].every(i => i.complete)")
    sizes = page.eval_on_selector_all(".dx-gallery img", "all => all.map(i => [i.naturalWidth, i.clientWidth])")
    assert len(sizes) > 18
    assert all(natural == 28 and drawn >= 60 for natural, drawn in sizes)
    assert page.locator(".js-plotly-plot").count() == 2


def test_a_wish_a_shared_link_and_the_back_button(visit: Visit, browser: Browser) -> None:
    page = visit.open("?run=six")
    before, accuracy = visit.numbers(), page.get_by_test_id("stMetricValue").first
    was = accuracy.inner_text()
    page.get_by_role("radio", name="70%").click()
    expect(accuracy).not_to_have_text(was)
    visit.settle()
    after, link = visit.numbers(), page.url.removeprefix(visit.server.address)
    expect(page.get_by_text("Chosen on val")).to_be_visible()

    page.go_back()
    expect(accuracy).to_have_text(was)
    visit.settle()
    assert visit.numbers() == before != after

    with contextlib.closing(browser.new_context(viewport={"width": 1440, "height": 900})) as context:
        context.add_init_script(WATCH)
        other = Visit(context.new_page(), visit.server)
        other.open(link)
        assert other.numbers() == after


def test_html_in_names_and_links_is_shown_as_text(visit: Visit) -> None:
    page = visit.open("?run=hostile&threshold=1.01&policy=" + HOSTILE.replace(" ", "%20"))
    assert page.get_by_text("There is no policy").is_visible()
    assert HOSTILE in page.locator(".st-key-workbench").inner_text()
    assert page.evaluate("() => window.hacked") is None


def test_narrow_and_dark(visit: Visit, tmp_path: Path) -> None:
    visit.page.emulate_media(color_scheme="dark")
    visit.page.set_viewport_size({"width": 800, "height": 900})
    page = visit.open("?run=four")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    panel, right = page.locator(".st-key-panel").bounding_box(), page.locator(".dx-exit").first.bounding_box()
    assert panel and right and right["y"] > panel["y"] + panel["height"]  # one below the other
    background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert background == "rgb(18, 22, 28)"  # our own theme
    page.screenshot(path=tmp_path / "narrow.png")

"""Live in Chromium: started, moved, paused and stopped; two sessions; accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe import violations
from playwright.sync_api import Page, expect
from serving import serving
from visiting import WATCH, Server, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on `model_root`."""
    with serving(model_root, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


def state(page: Page) -> str:
    return page.locator(".dx-status").get_attribute("data-state") or ""


def images(page: Page) -> int:
    text = page.locator(".dx-status").inner_text()
    found = re.search(r"([\d,]+) (?:of [\d,]+ )?images", text)
    assert found, text
    return int(found[1].replace(",", ""))


def grows(page: Page, than: int) -> None:
    page.wait_for_function(
        "than => Number(document.querySelector('.dx-status').innerText"
        ".match(/([\\d,]+) (of [\\d,]+ )?images/)[1].replaceAll(',', '')) > than",
        arg=than,
    )


def press(page: Page, name: str, then: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_selector(f".dx-status[data-state='{then}']")


@pytest.mark.slow
def test_started_threshold_moved_paused_and_stopped(visit: Visit) -> None:
    page = visit.show("live?run=tiny&threshold=0.5&batch=8&count=endless", ".st-key-begin button")
    press(page, "Start", "running")
    grows(page, 0)
    seen = images(page)
    grows(page, seen)  # nobody pressed anything
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    slider.press("PageUp")
    page.wait_for_url(lambda url: "threshold=0.5&" not in url)
    expect(page.locator(".dx-status")).to_contain_text("since the threshold moved")
    press(page, "Pause", "paused")
    seen = images(page) + 8  # the batch that was under way
    visit.page.wait_for_timeout(1500)
    assert images(page) <= seen
    press(page, "Resume", "running")
    grows(page, seen)
    press(page, "Stop", "stopped")
    visit.settle_on(".dx-status", ".dx-answers li")
    agreed, of = re.findall(r"[\d,]+", page.locator("[data-live=agreed]").inner_text())
    assert agreed == of and int(of.replace(",", "")) == images(page) > seen
    page.get_by_role("button", name="How it is measured").click()
    expect(page.get_by_text("only the last predictor")).to_be_visible()


@pytest.mark.slow
def test_two_sessions_at_once_take_turns(visit: Visit, browser: Browser) -> None:
    path = "live?run=tiny&batch=8&count=endless"
    page = visit.show(path, ".st-key-begin button")
    context = browser.new_context()
    context.set_default_timeout(120_000)
    context.add_init_script(WATCH)
    other = Visit(context.new_page(), visit.server)
    other.show(path, ".st-key-begin button")
    for one in (page, other.page):
        press(one, "Start", "running")
    for one in (page, other.page):
        grows(one, images(one))
        expect(one.get_by_text("other live run")).to_be_visible()
    press(other.page, "Stop", "stopped")
    grows(page, images(page))
    press(page, "Stop", "stopped")
    for one in (page, other.page):
        agreed, of = re.findall(r"[\d,]+", one.locator("[data-live=agreed]").inner_text())
        assert agreed == of
    context.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_finished_live_run_has_no_serious_violation_and_nothing_sticks_out(visit: Visit, scheme: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = visit.show("live?run=tiny&count=all", ".st-key-begin button")
    press(page, "Start", "done")
    visit.settle_on(".dx-answers li")
    found = violations(visit)
    assert not found, "\n".join(found)
    page.set_viewport_size({"width": 800, "height": 1100})
    visit.settle_on(".dx-answers li")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

"""Live in Chromium: started, moved, paused and stopped; its race and its results; accessibility."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect
from visiting import Visit, violations, wait_for_address

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.slow  # a model is trained and served


def status(page: Page) -> Locator:
    """The line of a live run, once a rerun has taken the former one away."""
    line = page.locator(".dx-status")
    expect(line).to_have_count(1)
    return line


def state(page: Page) -> str:
    return status(page).get_attribute("data-state") or ""


def images(page: Page) -> int:
    text = status(page).inner_text()
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


def test_started_threshold_moved_paused_and_stopped(trained: Visit) -> None:
    page = trained.show("live?run=tiny&threshold=0.4&batch=8&count=endless", ".st-key-begin button")
    press(page, "Start", "running")
    grows(page, 0)
    seen = images(page)
    grows(page, seen)  # nobody pressed anything
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    slider.press("PageDown")
    wait_for_address(page, lambda url: "threshold=0.4&" not in url)
    expect(page.locator(".dx-status")).to_contain_text("since the threshold moved")
    rule = page.locator(".rule").locator("..")
    expect(rule).to_contain_text("Set by hand, looking at test. These numbers are the record's")  # was "They are"
    press(page, "Pause", "paused")
    seen = images(page) + 8  # the batch that was under way
    trained.page.wait_for_timeout(1500)
    assert images(page) <= seen
    press(page, "Resume", "running")
    grows(page, seen)
    press(page, "Stop", "stopped")
    trained.settle_on(".dx-status", ".dx-answers li")
    agreed, of = re.findall(r"[\d,]+", page.locator("[data-live=agreed]").inner_text())
    assert agreed == of and int(of.replace(",", "")) == images(page) > seen
    page.get_by_role("button", name="How it is measured").click()
    expect(page.get_by_text("only the last predictor")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_finished_live_run_has_no_serious_violation_and_nothing_sticks_out(trained: Visit, scheme: str) -> None:
    trained.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = trained.show("live?run=tiny&count=all", ".st-key-begin button")
    press(page, "Start", "done")
    trained.settle_on(".dx-answers li")
    found = violations(trained)
    assert not found, "\n".join(found)
    page.set_viewport_size({"width": 800, "height": 1100})
    trained.settle_on(".dx-answers li")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_race_runs_and_its_results_survive_a_reload_and_are_files(trained: Visit) -> None:
    page = trained.show("live?run=tiny&threshold=0.4&batch=32&count=all", ".race canvas")
    race, speed = page.locator(".race canvas"), page.locator("[data-live=speed-up]")
    expect(race).to_have_attribute("aria-label", re.compile("expected from FLOPs"))
    expect(page.locator("[data-live=expected]")).to_have_text(re.compile(r"[\d.]+×"))
    press(page, "Start", "done")
    trained.settle_on(".dx-answers li", "[data-live=speed-up]")
    value = speed.inner_text()
    assert f"{value.removesuffix('×')} times as fast, measured" in (race.get_attribute("aria-label") or "")
    pixels = "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    assert race.evaluate(pixels) > 20  # images and gates are drawn
    page.reload()
    trained.settle_on(".dx-answers li", "[data-live=speed-up]")
    assert speed.inner_text() == value and state(page) == "done"
    with page.expect_download() as download:
        page.get_by_role("button", name="Results · JSON").click()
    found = json.loads(download.value.path().read_text())
    assert f"{found['measured']['speed_up']:.2f}×" == value and found["run"] == "tiny"
    page.set_viewport_size({"width": 400, "height": 900})
    trained.settle_on(".dx-answers li")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

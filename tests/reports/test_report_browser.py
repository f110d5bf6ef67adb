"""A report in Chromium, from a file: the slider moves numbers, curve, bars and images, without a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from axe import violations_of

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    return dx.write_report(run, tmp_path_factory.mktemp("report") / "demo.html", policy, images=60)


@pytest.fixture
def page(report: Path, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, wrong = context.new_page(), list[str]()
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    context.close()
    assert wrong == []


def piles(page: Page) -> list[int]:
    return list(page.evaluate("() => [...document.querySelectorAll('.pile div')].map(pile => pile.children.length)"))


def test_the_slider_moves_everything_and_comes_back(page: Page) -> None:
    record = dx.load_run("demo").record("test")
    assert page.locator("#accuracy").inner_text() == "91.33 %"
    before, bars = piles(page), "() => document.getElementById('exits').data.map(bar => [...bar.y])"
    assert sum(before) == 60
    thumb = page.get_by_role("slider", name="Threshold")
    thumb.focus()
    thumb.press("End")  # no image exits early
    full = f"{100 * record.correct[:, -1].mean():.2f} %"
    page.wait_for_function("full => document.getElementById('accuracy').textContent === full", arg=full)
    assert piles(page) == [0] * 5 + [60] and np.sum(page.evaluate(bars), axis=0).tolist() == [0] * 5 + [10_000]
    assert page.evaluate("() => document.getElementById('curve').data.at(-1).x[0]") == pytest.approx(1.028, abs=1e-3)
    page.get_by_role("button", name="Back to the first threshold").click()
    page.wait_for_function("() => document.getElementById('accuracy').textContent === '91.33 %'")
    assert piles(page) == before


def test_an_image_says_what_every_exit_answers(page: Page) -> None:
    page.locator(".tile").first.focus()
    assert page.locator("#detail").inner_text().count("exit ") == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out_on_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert violations_of(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")  # figures follow the width

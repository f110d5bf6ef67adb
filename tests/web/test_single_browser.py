"""The page of one HTML file in Chromium, from a disk: it plays, without a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe import violations_of

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module", params=["confidence", "per exit", "single"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = dx.load_run("demo-single" if request.param == "single" else "demo")
    how = {"flops": 0.3, "per_exit": request.param == "per exit"}
    policy = None if request.param == "single" else dx.fit_policy(run.record("calibration"), **how)
    return dx.publish(run, tmp_path_factory.mktemp("page") / f"{request.param}.html", policy)


@pytest.fixture
def page(path: Path, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, wrong = context.new_page(), list[str]()
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    context.close()
    assert wrong == []


def test_it_opens_from_a_disk_and_moves(page: Page, path: Path) -> None:
    assert page.get_by_role("heading", name="Early exit, explained").is_visible()
    assert page.locator("#details table").count() == 1 and page.locator("#served").is_hidden()
    slider = page.get_by_role("slider", name="Threshold")
    assert slider.count() == (1 if path.stem == "confidence" else 0)
    page.get_by_role("button", name="A thousand").click()
    page.wait_for_function("() => document.getElementById('accuracy').textContent.includes('%')")
    if slider.count():
        slider.press("End")  # no image exits early
        full = dx.load_run("demo").record("test").correct[:, -1].mean()
        page.wait_for_function(
            "text => document.getElementById('accuracy').textContent === text", arg=f"{100 * full:.2f} %"
        )
        page.get_by_role("button", name="Back to").click()
        page.wait_for_function("() => document.getElementById('accuracy').textContent === '91.33 %'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out_on_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert violations_of(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")

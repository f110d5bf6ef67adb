"""What plays at once, in Chromium with a clock that a test moves: images run, a thousand fall, the threshold sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from serving import served
from visiting import violations_of

import dmpo_explore as dx
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.run import Run
from dmpo_explore.web.export import export_web
from dmpo_explore.web.tiles import runner_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

# The clock's own frames come every 16 ms; 50 are the most that the page plays of a frame at its full speed.
FRAMES = "window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 50)"


@pytest.fixture
def policy(mine: Run) -> ConfidencePolicy:
    """A third of the images exit at exit 1."""
    return ConfidencePolicy((float(np.quantile(mine.record("test").confidence[:, 0], 0.67)),))


@pytest.fixture
def page(mine: Run, policy: ConfidencePolicy, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, service_workers="block")
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.clock.install()
    page.add_init_script(FRAMES)
    folder = export_web(mine, tmp_path / "page", policy, weights="float32", pictures=True)
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-plays=yes]")
        page.get_by_role("button", name="Pause").click()
        page.clock.pause_at(page.evaluate("Date.now() + 500"))  # from now on only the test moves it
        page.get_by_role("button", name="Image 1").click()
        yield page
    context.close()
    assert wrong == []


def number(page: Page, name: str) -> float:
    return float(page.locator(f"#{name}").inner_text().rstrip(" %"))


def act(page: Page) -> int:
    return int(str(page.locator("html").get_attribute("data-act")))


def ink(page: Page) -> int:
    """Changes with every pixel of the stage."""
    return int(
        page.evaluate("""() => {
        const canvas = document.getElementById("stage");
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.reduce((sum, value, i) => (sum * 31 + value + i) % 2147483647, 0);
    }""")
    )


def test_it_plays_without_a_click(page: Page, mine: Run, policy: ConfidencePolicy) -> None:
    record = mine.record("test")
    outcome = dx.apply(policy, record)
    rows = runner_rows(outcome, record.confidence)
    assert act(page) == 1 and page.get_by_role("button", name="Pause").is_visible()
    before = number(page, "compute"), ink(page)
    page.clock.run_for(700)
    assert page.locator("#accuracy").inner_text() == "…"  # on its way to exit 1
    assert number(page, "compute") > before[0] and ink(page) != before[1]
    page.clock.run_for(1500)
    found = outcome.prediction[rows[0]]
    assert page.locator("#accuracy").inner_text() == f"{record.meta.class_names[found]} ✓"
    compute = 100 * record.flops_fraction[outcome.exits[rows[0]]]
    assert number(page, "compute") == pytest.approx(compute, abs=0.06)
    assert number(page, "saved") == pytest.approx(100 - compute, abs=0.06)
    page.clock.run_for(60_000)
    assert act(page) == len(rows) + 1 and page.get_by_role("button", name="Play again").is_visible()
    assert number(page, "accuracy") == pytest.approx(100 * outcome.correct.mean(), abs=0.006)
    assert number(page, "compute") == pytest.approx(100 * outcome.flops_fraction.mean(), abs=0.06)


def test_the_threshold_sweeps_once_and_comes_back(page: Page, mine: Run) -> None:
    page.get_by_role("button", name=f"{mine.record('test').n_images} images").click()
    thumb, seen = page.get_by_role("slider", name="Threshold"), set[float]()
    own = thumb.input_value()
    for _ in range(70):
        page.clock.run_for(250)
        seen.add(float(thumb.input_value()))
    ends = [float(str(thumb.get_attribute(end))) for end in ("min", "max")]
    assert [min(seen), max(seen)] == pytest.approx(ends, abs=1e-6) and float(own) in seen and len(seen) > 10
    assert thumb.input_value() == own
    still = ink(page)
    page.clock.run_for(1000)
    assert ink(page) == still


def test_a_hand_on_the_threshold_stops_the_playing(page: Page, mine: Run) -> None:
    page.clock.run_for(500)
    thumb = page.get_by_role("slider", name="Threshold")
    thumb.press("End")
    page.clock.run_for(3000)
    assert act(page) == 4 and number(page, "early") == 0
    assert number(page, "accuracy") == pytest.approx(100 * mine.record("test").correct[:, -1].mean(), abs=0.006)
    page.get_by_role("button", name="Image 1").click()
    page.clock.run_for(30_000)
    assert act(page) == 1  # it was seen before: it waits
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(500)
    assert act(page) == 2


def test_keys_go_from_image_to_image(page: Page, mine: Run) -> None:
    stage = page.locator("#stage")
    stage.press("ArrowRight")
    page.clock.run_for(2000)
    first = page.locator("#detail").inner_text()
    assert first.count("exit ") == 4  # where it exits, and three answers
    stage.press("ArrowDown")
    assert page.locator("#detail").inner_text() != first
    assert "in a pile for each exit" in str(stage.get_attribute("aria-label"))
    back = "new KeyboardEvent('keydown', {key: 'ArrowLeft', altKey: true, cancelable: true})"
    left = f"node => node.dispatchEvent({back})"
    assert stage.evaluate(left) and page.locator("#threshold").evaluate(left)  # the browser goes back


def test_without_motion_there_are_still_pictures_with_captions(page: Page, policy: ConfidencePolicy) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.wait_for_selector("html[data-plays=yes]")
    page.clock.run_for(200)
    figures = page.locator("#stills figure")
    assert figures.count() == 3 and all(len(text) > 40 for text in figures.all_inner_texts())
    before = ink(page)
    page.clock.run_for(5000)
    assert ink(page) == before and act(page) == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out(page: Page, scheme: Any) -> None:
    page.clock.resume()  # axe waits for frames
    page.emulate_media(color_scheme=scheme)
    for motion in ("no-preference", "reduce"):
        page.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
        page.reload()
        page.wait_for_selector("html[data-plays=yes]")
        assert violations_of(page) == []
        for width in (400, 1280, 2560):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")

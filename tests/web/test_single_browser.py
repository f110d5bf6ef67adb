"""The page of one HTML file in Chromium, from a disk: it plays, without a request."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from visiting import violations_of

import dmpo_explore as dx
from dmpo_explore.runs.run_files import WEIGHTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module", params=["confidence", "per exit", "single"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = dx.load_run("demo-single" if request.param == "single" else "demo")
    how = {"flops": 0.3, "per_exit": request.param == "per exit"}
    policy = None if request.param == "single" else dx.fit_policy(run.record("calibration"), **how)
    against = dx.load_run("demo-naive") if request.param == "confidence" else None
    return dx.publish(run, tmp_path_factory.mktemp("page") / f"{request.param}.html", policy, against=against)


@pytest.fixture
def page(path: Path, browser: Browser) -> Iterator[Page]:
    with opened(path, browser) as page:
        yield page


@contextmanager
def opened(path: Path, browser: Browser) -> Iterator[Page]:
    """The page from a disk, which asks for nothing and reports nothing wrong."""
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
    page.get_by_role("button", name=re.compile("^[0-9,]+ images$")).click()
    page.wait_for_function("() => document.getElementById('accuracy').textContent.includes('%')")
    if slider.count():
        slider.press("End")  # no image exits early
        run = dx.load_run("demo")
        record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), flops=0.3)
        full = record.correct[:, -1].mean()
        page.wait_for_function(
            "text => document.getElementById('accuracy').textContent === text", arg=f"{100 * full:.2f} %"
        )
        page.get_by_role("button", name="Back to").click()
        begun = dx.apply(policy, record).summary()["accuracy"]
        page.wait_for_function(
            "text => document.getElementById('accuracy').textContent === text", arg=f"{100 * begun:.2f} %"
        )


def test_the_story_is_short_and_its_numbers_are_the_runs(page: Page, path: Path) -> None:
    steps = page.locator("#story .step")
    assert steps.count() == {"confidence": 8, "per exit": 6, "single": 0}[path.stem]
    for i in range(steps.count()):
        words = steps.nth(i).locator(".telling > p:not(.kicker, .try)").inner_text().split()
        assert 10 < len(words) <= 60
        assert steps.nth(i).get_by_text("Try: ").is_visible()
    if path.stem == "single":
        return
    run = dx.load_run("demo")
    record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), flops=0.3)
    text = page.locator("#story").inner_text().replace("\u00a0", " ")
    assert f"{100 * record.correct[:, 0].mean():.1f} % could be answered correctly" in text
    if path.stem == "confidence":
        error = 100 * dx.apply(policy, record).early_exit_error.mean()
        assert f"{error:.1f} % of all images exit with an error" in text


@pytest.mark.parametrize("path", ["confidence"], indirect=True)  # the only page with all eight steps
def test_each_step_has_something_to_try(page: Page) -> None:
    step, correct = page.locator("#story .step"), dx.load_run("demo").record("test").correct.mean(axis=0)
    shows = "share => document.getElementById('accuracy').textContent === `${(100 * share).toFixed(2)} %`"
    assert "All 1,300 images stopped at exit 1: −5.8 points" in step.nth(0).inner_text()
    before = step.nth(1).inner_text()
    step.nth(1).get_by_role("button", name="Another image").click()
    assert step.nth(1).inner_text() != before
    box = step.nth(2).locator(".columns").bounding_box()
    assert box
    page.mouse.click(box["x"] + 5, box["y"] + 50)  # almost the lowest threshold
    page.wait_for_function(shows, arg=float(correct[0]))
    assert "1,000 of the 1,000 images above exit at exit 1" in step.nth(2).inner_text()
    thumb = page.get_by_role("slider", name="Threshold")
    thumb.press("End")
    none = "At more than 100 %, 0 of the 1,000 images above exit at exit 1. Of the 1,000 that go on"
    assert none in step.nth(2).inner_text().replace("\u00a0", " ")
    thumb.press("Home")
    step.nth(4).locator(".strip button").first.click()
    assert step.nth(4).get_by_role("status").locator(".grows").count() == 6
    assert step.nth(4).locator(".strip").count() == 1  # all images exit at exit 1
    page.get_by_role("button", name="Back to").click()
    assert step.nth(4).locator(".strip").count() == 2
    step.nth(5).get_by_role("button", name="exit 2").click()
    naive = 100 * dx.load_run("demo-naive").record("test").correct[:, 1].mean()
    assert f"demo-naive {naive:.1f}\u00a0% correct" in step.nth(5).get_by_role("status").inner_text()
    for target in step.nth(7).get_by_role("group", name="Target").get_by_role("button").all():
        target.click()
        said = step.nth(7).get_by_role("status").inner_text().replace("\u00a0", " ")
        assert "with other images of this kind" in said
        page.wait_for_function("text => text.includes(document.getElementById('accuracy').textContent)", arg=said)
    page.wait_for_function(shows, arg=float(correct[-1]))  # the slider went to full depth


@pytest.mark.parametrize("path", ["confidence"], indirect=True)
@pytest.mark.parametrize("width", [400, 1280])
def test_keys_go_from_step_to_step_and_a_step_is_seen_on_a_small_screen(page: Page, width: int) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 240})
    focus = "() => document.activeElement.id"
    page.keyboard.press("n")
    assert page.evaluate(focus) == ""  # keys are the page's own only in the story
    page.locator("#story > p").focus()
    for key, place in (("n", 1), ("n", 2), ("n", 3), ("p", 2)):
        page.keyboard.press(key)
        assert page.evaluate(focus) == f"step-{place}"
        page.evaluate("() => new Promise(requestAnimationFrame)")
        heading, bar = page.locator(f"#step-{place}").bounding_box(), page.locator("#pick").bounding_box()
        assert heading and bar and bar["y"] + bar["height"] <= heading["y"] < 240
        page.wait_for_selector(f".step.seen #step-{place}")
    page.emulate_media(media="print", reduced_motion="no-preference")
    unseen = page.locator(".step:not(.seen) .grows i").last
    assert unseen.evaluate("node => getComputedStyle(node).transform") == "none"


@pytest.mark.parametrize("path", ["confidence"], indirect=True)
def test_each_part_of_dmpo_has_a_figure_of_the_run(page: Page) -> None:
    run, step = dx.load_run("demo"), page.locator("#story .step").nth(6)
    record, weights = run.record("test"), load_file(run.path / WEIGHTS)
    amount = sum(array.size for name, array in weights.items() if name.startswith("stages.0.bypass."))
    assert f"{amount:,} weights" in step.inner_text()
    assert f"add {100 * (record.flops_fraction[-1] - 1):.1f}\u00a0%" in step.inner_text()
    step.get_by_role("button", name="Second order").click()
    step.get_by_text("1,176 pairs").wait_for()
    name = step.get_by_role("group", name="Class").get_by_role("button").first.inner_text()
    label = [one.replace("_", " ") for one in record.meta.class_names].index(name)
    pairs = weights["stages.0.predictor.second.weight"][label]
    largest = np.abs(pairs).argmax()
    row, column = (int(of[largest]) for of in np.triu_indices(48))
    look = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data]"
    red, _, blue, alpha = step.locator(".matrix").evaluate(look, [row, column])
    assert (blue > red) == (pairs[largest] > 0) and alpha == 255
    step.get_by_role("button", name="Two phases").click()
    step.get_by_role("button", name="exit 2").click()
    assert step.locator(".run.dim").count() == 5
    assert "First the loss of exit 6 counts most, at the end that of exit 1" in step.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out_on_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert violations_of(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    page.locator(".kicker").first.evaluate("node => (node.textContent = 'a-long-name'.repeat(9))")
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(forced_colors="active")
    for button in page.locator("#story [aria-pressed=true]").all()[:1]:
        ground = "node => [node, node.nextElementSibling].map(one => getComputedStyle(one).backgroundColor)"
        assert len(set(button.evaluate(ground))) == 2


ODD = {
    "patience": lambda run: dx.POLICIES["patience"]((1,)),
    "fixed": lambda run: dx.POLICIES["fixed"]((3,)),
    "held entropy": lambda run: dx.hold_budget(
        dx.fit_policy(run.record("calibration"), "entropy", flops=0.4), run.record("calibration")
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_a_threshold_has_its_own_unit_whatever_score_is_drawn(name: str, browser: Browser, tmp_path: Path) -> None:
    run = dx.load_run("demo")
    with opened(dx.publish(run, tmp_path / "page.html", ODD[name](run)), browser) as page:
        value = page.locator("#value").text_content() or ""
        assert "%" not in value and (name == "held entropy") == value.endswith(" nats"), value
        story = page.locator("#story").inner_text().replace("\u00a0", " ")
        at = {"patience": "At 1.00", "fixed": "At 3.00", "held entropy": "Here"}[name]
        assert f"{at}, " in story and " % of all images exit with an error" in story
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        stills = page.locator("#stills")
        stills.locator("figure").first.wait_for()
        assert "the threshold" not in stills.inner_text()  # no score that is drawn is compared with one
        if name == "held entropy":
            clearest = page.get_by_role("group", name="Clearest at exit 1")
            clearest.get_by_role("button").first.click()
            surest = run.record("test").confidence[:, 0].max()
            said = page.locator(".step", has=clearest).get_by_role("status").inner_text().replace("\u00a0", " ")
            assert int(said.split("%")[0].split()[-1]) > 90 * surest


def test_a_split_of_one_class_has_a_page(browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(dx.load_run("demo").path, tmp_path / "one")
    record = dx.load_run("demo").record("test")
    shutil.rmtree(tmp_path / "one" / "records" / "test")
    record.subset(np.flatnonzero(record.labels == 5)).save(tmp_path / "one" / "records" / "test")
    with opened(dx.publish(dx.load_run(tmp_path / "one"), tmp_path / "page.html", pictures=False), browser) as page:
        assert page.locator("#story .step").count() >= 5 and page.locator("#details table").count() == 1

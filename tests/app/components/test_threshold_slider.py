"""The slider as its reader uses it, in Chromium: numbers move while the pointer is down and nothing is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from explore_page import expected, none_early
from playwright.sync_api import Page, WebSocket, expect
from visiting import Server, Visit, elements_sent, new_visit, wait_for_address

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def watch_socket(page: Page) -> list[str | bytes]:
    """Everything that the page will send to the server from now on."""
    sent: list[str | bytes] = []

    def opened(socket: WebSocket) -> None:
        socket.on("framesent", lambda data: sent.append(data))

    page.on("websocket", opened)
    return sent


def shown(visit: Visit) -> dict[str, str]:
    keys = ("Accuracy", "Compute saved")
    return dict(zip(keys, visit.numbers(), strict=True))


def address(page: Page) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(urlsplit(page.url).query).items()}


def policy_of(page: Page) -> dx.Policy:
    """What the address says."""
    there = address(page)
    record = dx.load_run(there["run"]).record(there["split"])
    thresholds = [float(number) for number in there["threshold"].split(",")]
    return dx.fit_policy(record, there["policy"], threshold=thresholds)


def middle(page: Page, selector: str, number: int = 0) -> tuple[float, float]:
    box = page.locator(selector).nth(number).bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_while_dragging_everything_moves_and_nothing_is_sent(visit: Visit, runs: Path) -> None:
    sent = watch_socket(visit.page)
    page = visit.open("?run=four&threshold=0.5&view=images")
    slider = page.get_by_role("slider", name="Threshold")
    x, y = middle(page, ".thumb")
    states = []
    page.mouse.move(x, y)
    page.mouse.down()
    before, url = len(sent), page.url
    for step in (60, 130, 220, 320):
        page.mouse.move(x + step, y, steps=3)
        page.wait_for_timeout(60)  # a few frames
        counts = page.locator(".head .count").all_text_contents()
        point = [page.locator(".point").get_attribute(name) for name in ("cx", "cy")]
        states.append((visit.numbers(), counts, point, slider.get_attribute("aria-valuetext")))
    for part in range(4):
        assert len({str(state[part]) for state in states}) == 4
    assert len(sent) == before and page.url == url
    promised = visit.numbers()
    page.mouse.up()
    wait_for_address(page, lambda now: now != url)
    visit.settle()
    assert len(sent) > before
    assert visit.numbers() == promised
    assert shown(visit) == expected("four", "test", policy_of(page))
    assert page.locator(".dx-shown").get_attribute("data-threshold") == address(page)["threshold"]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("entropy", "patience", "gate")]


@pytest.mark.parametrize("policy", ["confidence", *SLOW])
def test_keys_move_it_and_its_numbers_are_the_librarys(visit: Visit, runs: Path, policy: str) -> None:
    page = visit.open(f"?run=six&policy={policy}")
    slider = page.get_by_role("slider", name="Threshold")
    last = int(slider.get_attribute("aria-valuemax") or 0)
    slider.focus()
    places = []
    for key in ("Home", "ArrowRight", "ArrowUp", "ArrowLeft", "PageUp", "PageDown", "End"):
        slider.press(key)
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        places.append(int(slider.get_attribute("aria-valuenow") or -1))
    jump = max(1, round(last / 10))
    end = int(slider.get_attribute("aria-valuemax") or 0)  # the stop of the fitted threshold may be gone by now
    assert last - end in (0, 1)
    assert places == [0, 1, 2, 1, min(last, 1 + jump), max(0, min(last, 1 + jump) - jump), end]
    assert (slider.get_attribute("aria-valuetext") or "").startswith("threshold none early, accuracy ")
    expect(page.get_by_text("No image exits early.")).to_be_visible()
    visit.settle()
    assert shown(visit)["Compute saved"] == f"{none_early('six'):.1f}%".replace("-", "−")
    nobody = address(page)["threshold"]
    slider.press("PageDown")
    expect(page.get_by_text("No image exits early.")).not_to_be_visible()
    page.wait_for_function("old => new URL(location).searchParams.get('threshold') !== old", arg=nobody)
    visit.settle()
    record, val = (dx.load_run("six").record(split) for split in ("test", "val"))
    fitted = dx.fit_policy(val if policy == "gate" else record, policy, threshold=float(address(page)["threshold"]))
    assert shown(visit) == expected("six", "test", fitted)
    assert slider.evaluate("thumb => thumb.getRootNode().activeElement === thumb")  # keeps the focus when redrawn


def test_an_answer_does_not_move_it_while_a_key_is_down(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=six&policy=confidence")
    slider = page.get_by_role("slider", name="Threshold")
    slider.press("Home")
    before = address(page).get("threshold")
    slider.press("ArrowRight")
    page.keyboard.down("PageUp")
    place = str(1 + round(int(slider.get_attribute("aria-valuemax") or 0) / 10))
    expect(slider).to_have_attribute("aria-valuenow", place)
    page.wait_for_function("old => new URL(location).searchParams.get('threshold') !== old", arg=before)
    visit.settle()  # the answer to what came before
    assert slider.get_attribute("aria-valuenow") == place
    page.keyboard.up("PageUp")
    visit.settle()
    assert slider.get_attribute("aria-valuenow") == place


def test_letting_go_sends_only_what_follows_the_slider(visit: Visit, runs: Path) -> None:
    sent = elements_sent(visit.page)
    page = visit.open("?run=four&budget=60")
    assert {("selectbox", "Run"), ("number_input", "Max compute (%)")} < {element[:2] for element in sent}
    slider = page.get_by_role("slider")
    expect(page.get_by_role("button", name="compute ≤ 60%")).to_be_visible()
    for lit in (True, False, False):  # the wish goes out, and above that nothing changes any more
        sent.clear()
        before = page.url
        slider.press("PageDown")
        wait_for_address(page, lambda now, before=before: now != before)
        visit.settle()
        expect(page.get_by_role("button", name="Targets")).to_be_visible()
        labels = {label for _, label, _ in sent}
        assert ("Max compute (%)" in labels) == lit == ("Run" in labels)
        assert "dmpo_explore.slider_code" not in labels
        assert shown(visit) == expected("four", "test", policy_of(page)) and "budget" not in address(page)


def test_a_click_on_the_curve_sets_the_threshold(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.2")
    before = visit.numbers()
    box = page.locator(".curve svg.live").bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
    wait_for_address(page, lambda url: "threshold=0.2" not in url.split("&"))
    visit.settle()
    assert visit.numbers() != before
    assert shown(visit) == expected("four", "test", policy_of(page))
    at = float(page.locator(".point").get_attribute("cx") or 0)
    assert abs(at - 0.6 * box["width"]) < 0.05 * box["width"]  # the point is where the click was


def test_the_curve_keeps_the_pointer_when_its_size_changes(visit: Visit, runs: Path) -> None:
    """As where the words above it take another line as soon as the threshold is one by hand."""
    page = visit.open("?run=four&threshold=0.2")
    curve = page.locator(".curve svg.live")
    curve.scroll_into_view_if_needed()
    box = curve.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_timeout(300)
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.up()
    wait_for_address(page, lambda url: "threshold=0.2" not in url.split("&"))
    visit.settle()
    assert shown(visit) == expected("four", "test", policy_of(page))
    assert page.locator(".moving").count() == 0
    now = page.locator(".curve svg.live").bounding_box()
    assert now and abs(now["width"] - box["width"]) > 10  # drawn anew, at the size that there is


@pytest.mark.slow
def test_a_finger_moves_it(browser: Browser, server: Server) -> None:
    with new_visit(browser, server, viewport={"width": 800, "height": 900}, has_touch=True) as visit:
        page = visit.open("?run=four&threshold=0.5")
        before = visit.numbers()
        box = page.locator(".track").bounding_box()
        assert box
        page.touchscreen.tap(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
        expect(page.locator("[data-number=accuracy]")).not_to_have_text(before[0])
        visit.settle()
        assert "threshold=0.5" not in page.url.split("&") and "threshold=" in page.url


@pytest.mark.slow
def test_a_slider_for_every_exit(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.6")
    page.get_by_role("button", name="Policy: confidence").click()
    page.get_by_role("radio", name="per exit").click()
    expect(page.get_by_role("slider")).to_have_count(3)
    page.keyboard.press("Escape")
    visit.settle()
    assert address(page)["threshold"] == "0.6,0.6,0.6"
    sent = visit.numbers()
    x, y = middle(page, ".thumb", 1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 70, y, steps=4)
    expect(page.locator("[data-number=compute]")).not_to_have_text(sent[1])
    page.mouse.up()
    wait_for_address(page, re.compile(r"threshold=0\.6%2C0\.[^6%][^%]*%2C0\.6"))
    visit.settle()
    assert shown(visit) == expected("four", "test", policy_of(page))
    box = page.locator(".curve svg.live").bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])  # the curve has one threshold
    expect(page.get_by_role("slider")).to_have_count(1)
    visit.settle()
    assert shown(visit) == expected("four", "test", policy_of(page))


@pytest.mark.slow
def test_a_drag_that_is_taken_away_leaves_nothing(visit: Visit) -> None:
    for query, selector in (("0.5", ".thumb"), ("0.9,0.8,0.9", ".thumb"), ("0.9,0.8,0.9", ".curve svg.live")):
        page = visit.open(f"?run=four&threshold={query}")
        before, url = visit.numbers(), page.url
        x, y = middle(page, selector)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 40, y, steps=4)
        expect(page.locator("[data-number=compute]")).not_to_have_text(before[1])
        target = page.locator(selector if "svg" in selector else ".track").first
        target.evaluate("t => t.dispatchEvent(new PointerEvent('pointercancel', {pointerId: 1, bubbles: true}))")
        page.wait_for_function("() => !document.querySelector('.threshold-slider')?.classList.contains('moving')")
        assert visit.numbers() == before and page.url == url
        page.mouse.up()
        visit.settle()
        assert visit.numbers() == before and page.url == url


def thresholds(page: Page, seconds: float) -> set[str]:
    """What the slider shows for so long."""
    found = set()
    for _ in range(int(20 * seconds)):
        found.add(page.locator(".threshold-slider").get_attribute("data-threshold") or "")
        page.wait_for_timeout(50)
    return found


@pytest.mark.slow
def test_the_first_visit_sweeps_once_and_any_key_stops_it(browser: Browser, server: Server) -> None:
    with new_visit(browser, server, new=True) as visit:
        sent = watch_socket(visit.page)
        page = visit.page
        page.goto(f"{server.address}?run=four&threshold=0.8")
        expect(page.locator(".words .from")).to_contain_text("A demonstration")
        before = len(sent)
        assert len(thresholds(page, 2)) > 3 and len(sent) == before
        page.keyboard.press("Shift")
        expect(page.locator(".words .from")).to_have_text("Set by hand, looking at test.")
        visit.settle()
        assert page.locator(".threshold-slider").get_attribute("data-threshold") == "0.8"
        visit.open("?run=four&threshold=0.7")
        assert thresholds(page, 1) == {"0.7"}


@pytest.mark.slow
def test_with_reduced_motion_nothing_is_swept(browser: Browser, server: Server) -> None:
    with new_visit(browser, server, new=True, reduced_motion="reduce") as visit:
        page = visit.open("?run=four&threshold=0.8")
        assert thresholds(page, 1) == {"0.8"}


@pytest.mark.slow
def test_it_knows_light_from_dark(visit: Visit) -> None:
    visit.page.emulate_media(color_scheme="dark")
    page = visit.open("?run=four")
    slider = page.locator(".threshold-slider")
    assert "dark" in (slider.get_attribute("class") or "")
    assert slider.evaluate("c => getComputedStyle(c).color") == "rgb(232, 236, 241)"

"""What a release of the slider sends: words and numbers, and nothing that the browser has already."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from dmpo_explore_app.components import clickable, gallery
from dmpo_explore_app.services import thumbnails
from playwright.sync_api import Page, expect
from synthetic import make_record
from visiting import Visit, elements_sent, wait_for_address

import dmpo_explore as dx


def test_a_release_sends_words_and_numbers_but_nothing_that_is_there(visit: Visit, runs: Path) -> None:
    """Code, curves, counts and arrays were sent before; of the images only those that were not on screen yet."""
    sent = elements_sent(visit.page)
    page = visit.open("?run=four&threshold=0.5&view=images")
    first = max(size for _, name, size in sent if name == "dmpo_explore.clickable")  # all images
    seen, height = [], "shown => shown.getBoundingClientRect().top + scrollY"
    top = page.locator(".st-key-linked").evaluate(height)
    for key in ("PageUp", "PageUp", "PageDown", "PageDown", "PageUp"):
        sent.clear()
        released(page, key)
        visit.settle()
        seen.append(
            [(name.removeprefix("dmpo_explore."), size) for kind, name, size in sent if kind == "bidi_component"]
        )
        assert page.locator(".st-key-linked").evaluate(height) == top  # what is not sent leaves no gap
        titles = page.eval_on_selector_all(".dx-shown li", "all => all.map(item => item.title)")
        assert len(titles) == len(set(titles)) > 40
    for found in seen[1:]:  # the first has other stops: the reader's own threshold is not among them any more
        assert {name for name, _ in found} == {"threshold_slider", "clickable", "answered"}
        assert dict(found)["threshold_slider"] < 2_000 and dict(found)["answered"] < 1_000
    again = max(size for name, size in seen[-1] if name == "clickable")  # every image of it was shown before
    assert again < 8_000 < 30_000 < first


def released(page: Page, key: str) -> None:
    """The slider moved by a key, and the address after it."""
    before = page.url
    page.get_by_role("slider").press(key)
    wait_for_address(page, lambda now: now != before)


def with_images(visit: Visit) -> Page:
    """The gallery after two moves, which have shown its images."""
    page = visit.open("?run=four&threshold=0.5&view=images")
    for _ in range(2):
        released(page, "PageUp")
        visit.settle()
    return page


def test_what_the_browser_has_lost_is_sent_again(visit: Visit, runs: Path) -> None:
    page = with_images(visit)
    page.evaluate("""() => {
        globalThis[Symbol.for("dmpo_explore.images")].clear();
        globalThis[Symbol.for("dmpo_explore.supplies")].kept.clear();
    }""")
    released(page, "PageDown")
    page.wait_for_function("() => globalThis[Symbol.for('dmpo_explore.supplies')].kept.size >= 2")
    visit.settle()
    there = parse_qs(urlsplit(page.url).query)["threshold"][0]
    expect(page.locator(".dx-shown")).to_have_attribute("data-threshold", there)
    assert page.locator(".dx-shown li").count() > 40


def test_what_a_busy_browser_has_lost_is_sent_again(visit: Visit, runs: Path) -> None:
    """It asks for arrays and for images, and draws nothing until both are answered; the arrays are gone again then."""
    page = with_images(visit)
    page.evaluate("""() => {
        globalThis[Symbol.for("dmpo_explore.images")].clear();
        globalThis[Symbol.for("dmpo_explore.supplies")].kept.clear();
        const send = WebSocket.prototype.send;
        let asked = 0, held = null;
        const release = (socket) => { if (held) send.call(socket, held); held = null; };
        WebSocket.prototype.send = function (data) {
            asked += 1;  // the release; the arrays, which wait for the next one, or a while; the images
            if (asked === 2) {
                held = data;
                setTimeout(() => release(this), 5000);
                return;
            }
            send.call(this, data);
            if (asked !== 3) return;
            release(this);
            for (const until = performance.now() + 3000; performance.now() < until; );
        };
    }""")
    released(page, "PageDown")
    page.wait_for_function("() => globalThis[Symbol.for('dmpo_explore.supplies')].kept.size >= 2")
    visit.settle()
    assert page.locator(".dx-shown li").count() > 40


def test_an_image_that_could_not_be_read_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[list[str]] = []
    monkeypatch.setattr(clickable.sent, "keep", lambda names: counted.append([*names]))
    monkeypatch.setattr(clickable, "_component", lambda **_: None)
    html = {"seen": "<li><img></li>", "gone": f'<li><img src="{thumbnails.not_read()}"></li>'}
    clickable.clickable_images("0.5", ["<p></p>", [*html]], html.__getitem__, "pictures", print)
    assert counted == [["seen"]]


def test_a_label_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(clickable, "_component", lambda *, data, **_: sent.extend(data["parts"]))
    outcome = dx.Outcome(record := make_record(60, 3, 4), np.arange(60) % record.n_exits)
    body = gallery.heat_map(outcome, (0, 0), None)
    clickable.clickable(body, "heat", print)
    assert body.count(" title=") == sent[0].count("data-titled ") == 4 * 4 + 3 and " title=" not in sent[0]
    assert len(sent[0]) < 0.9 * len(body)

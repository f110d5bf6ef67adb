"""The mosaic as its reader uses it, in Chromium: tiles move with the slider, and the library's numbers with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dmpo_explore_app.services import selection
from playwright.sync_api import Page, expect
from visiting import Visit, wait_for_address

import dmpo_explore as dx

if TYPE_CHECKING:
    pass

TILES = """({mosaic: m}) => {
    return {rows: [...m.pictures.rows], exits: [...m.piles.exit], yes: [...m.piles.yes], x: [...m.x], toX: [...m.toX],
            y: [...m.y], toY: [...m.toY], frames: m.frames} }"""
RESTS = """({mosaic: m}) => {
    return m.piles && m.x.every((x, i) => x === m.toX[i] && m.y[i] === m.toY[i]) }"""


def tiles(page: Page) -> dict[str, Any]:
    return dict(page.locator(".field > canvas").evaluate(TILES))


def until(page: Page, condition: str) -> None:
    """Wait until ``condition`` of the mosaic's canvas holds."""
    page.wait_for_function(condition, arg=page.locator(".field > canvas").element_handle())


def counts(page: Page) -> list[int]:
    return [int(text.replace(",", "")) for text in page.locator(".head .count").all_text_contents()]


def test_tiles_flow_with_the_thumb_and_say_what_the_library_says(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.5&view=classes")
    until(page, RESTS)
    record, before = dx.load_run("four").record("test"), tiles(page)
    box, thumb = page.locator(".track").bounding_box(), page.locator(".thumb").bounding_box()
    assert box and thumb
    y = thumb["y"] + thumb["height"] / 2
    page.mouse.move(thumb["x"] + thumb["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=3)
    until(page, f"({{mosaic}}) => mosaic.frames > {before['frames']} + 2")
    until(page, RESTS)  # the pointer is still down
    label = page.locator(".threshold-slider").get_attribute("data-threshold") or ""
    exits = dx.fit_policy(record, threshold=float(label)).exits(record)
    correct = record.prediction[np.arange(record.n_images), exits] == record.labels
    now = tiles(page)
    assert now["exits"] == exits[now["rows"]].tolist() != before["exits"]
    assert now["yes"] == correct[now["rows"]].astype(int).tolist()
    assert counts(page) == np.bincount(exits, minlength=4).tolist()
    assert len(set(zip(now["x"], now["y"], strict=True))) == len(now["x"])  # each has a place of its own
    cell = page.locator('[data-pick="cell 3 1"]')
    own = record.labels == 2
    assert cell.inner_text() == f"{(exits[own] == 0).mean():.0%}"
    paid = page.locator('tr:has([data-pick="cell 3 1"]) td')
    lost = f"{100 * (correct[own].mean() - record.correct[own, -1].mean()):+.1f}".replace("-", "−")
    expected = [f"{correct[own].mean():.1%}", lost, f"{record.flops_fraction[exits[own]].mean():.1%}"]
    assert paid.all_inner_texts()[-3:] == expected
    page.mouse.up()
    visit.settle()
    assert tiles(page)["exits"] == now["exits"]  # the answer changes nothing
    assert paid.all_inner_texts()[-3:] == expected


def test_a_tile_a_heading_and_the_amount_are_chosen(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.8")
    until(page, RESTS)
    found, canvas = tiles(page), page.locator(".field > canvas")
    canvas.hover(position={"x": found["x"][7] + 3, "y": found["y"][7] + 3})
    expect(page.locator(".preview")).to_contain_text("confidence")
    canvas.click(position={"x": found["x"][7] + 3, "y": found["y"][7] + 3})
    wait_for_address(page, f"**image={found['rows'][7]}**")
    visit.settle()
    record, drawer = dx.load_run("four").record("test"), page.locator(".drawer")
    row = found["rows"][7]
    outcome = dx.apply(dx.fit_policy(record, threshold=0.8), record)
    lines = [line.replace("\t", " ") for line in drawer.locator("tbody tr").all_inner_texts()]
    assert [f"{record.confidence[row, k]:.1%}" in lines[k] for k in range(4)] == [True] * 4
    assert [k for k, line in enumerate(lines) if line.endswith("stops")] == [outcome.exits[row]]
    why = dx.analysis.trace_decision(record, dx.fit_policy(record, threshold=0.8), row).sentence()
    expect(drawer.locator(".why")).to_have_text(why)
    expect(drawer).to_be_focused()
    place = selection.place(outcome, selection.ALL, row)
    page.keyboard.press("ArrowRight")
    wait_for_address(page, f"**image={place.after}**")
    visit.settle()
    page.keyboard.press("ArrowLeft")
    wait_for_address(page, f"**image={row}**")
    visit.settle()
    page.keyboard.press("Escape")
    wait_for_address(page, lambda url: "image=" not in url)
    expect(drawer).to_be_hidden()
    visit.settle()
    canvas.press("ArrowRight")
    expect(page.locator(".words-of-tile").first).to_contain_text("predicts")
    page.get_by_role("combobox", name="Images in the mosaic").select_option("250")
    expect(page.locator(".drawn")).to_contain_text("of 600")
    visit.settle()
    assert len(tiles(page)["rows"]) == 250


@pytest.mark.slow
def test_without_motion_tiles_are_there_at_once(visit: Visit) -> None:
    visit.page.emulate_media(reduced_motion="reduce")
    page = visit.open("?run=four&threshold=0.5")
    before = tiles(page)
    page.get_by_role("slider").press("PageUp")
    until(page, f"({{mosaic}}) => mosaic.frames > {before['frames']}")
    now = tiles(page)
    assert now["x"] == now["toX"] and now["exits"] != before["exits"]


def test_a_single_exit_has_no_slider_and_no_tab_of_histograms(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=one&view=confidence")
    assert page.locator(".threshold-slider").get_attribute("data-view") == "mosaic"
    assert not page.locator(".tabs").get_by_role("button", name="Confidence").is_visible()
    assert "Drag the slider" not in page.locator(".threshold-slider").inner_text()
    expect(page.get_by_role("slider")).to_have_count(0)


def test_histograms_and_confusion_are_the_librarys_and_move_the_threshold(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.8&view=confidence")
    record = dx.load_run("four").record("test")
    outcome = dx.apply(dx.fit_policy(record, threshold=0.8), record)
    reach = [f"{(outcome.exits >= k).sum():,} reach it" for k in range(3)]
    titles = page.locator(".histogram .title").all_inner_texts()
    assert len(titles) == 3 and all(text.endswith(end) for text, end in zip(titles, reach, strict=True))
    within = """svgs => svgs.map(svg => {
        const [up, down, shade] = ['.correct', '.incorrect', '.shade'].map(name => svg.querySelector(name).getBBox());
        return up.y >= shade.y && down.y + down.height <= shade.y + shade.height + 1;
    })"""
    assert page.locator(".histogram svg").evaluate_all(within) == [True] * 3  # bars, and not their axis
    page.locator(".tabs").get_by_role("button", name="Confusion").click()
    cells = [int(text or 0) for text in page.locator(".matrix tbody td").all_inner_texts()]
    wanted = np.zeros((10, 10), int)
    np.add.at(wanted, (record.labels, outcome.prediction), 1)
    assert cells == wanted.ravel().tolist()

    page.locator(".tabs").get_by_role("button", name="Confidence").click()
    visit.settle()
    before = page.url
    plot = page.locator(".histogram svg").nth(1)
    plot.click(position={"x": 0.5 * plot.evaluate("svg => svg.getBoundingClientRect().width"), "y": 60})
    wait_for_address(page, lambda url: url != before)
    visit.settle()
    threshold = float((page.locator(".threshold-slider").get_attribute("data-threshold") or "").split(",")[0])
    assert abs(threshold - 0.5) < 0.05

    page.locator(".tabs").get_by_role("button", name="Confusion").click()
    page.locator(".matrix tbody td").nth(1).click()  # the first class, taken for another
    wait_for_address(page, "**answers=incorrect**")
    visit.settle()
    assert "class=" in page.url

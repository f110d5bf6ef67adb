"""The map by t-SNE in Chromium: it is made, zoomed, and a region on it survives a reload."""

from __future__ import annotations

from typing import Any

import numpy as np
from playwright.sync_api import Page, expect
from visiting import Visit, around, wait_for_address

CANVAS = ".map-field > canvas"
RESTS = "({map: m}) => m.pictures && !m.waiting && m.x.every((x, i) => x === m.toX[i] && m.y[i] === m.toY[i])"
POINTS = "({map: m}) => ({x: [...m.x], y: [...m.y], side: m.made.atlas.side, unit: m.unit, exit: m.exit})"


def points(page: Page) -> dict[str, Any]:
    canvas = page.locator(CANVAS)
    page.wait_for_function(RESTS, arg=canvas.element_handle())
    return dict(canvas.evaluate(POINTS))


def test_a_map_by_neighbours_is_made_zoomed_and_its_region_survives_a_reload(trained: Visit) -> None:
    page = trained.open("?run=tiny&threshold=0.4&view=map")
    expect(page.get_by_role("button", name="last, t-SNE")).to_be_visible(timeout=60_000)
    expect(page.locator(".map-wait")).to_be_hidden()
    before = points(page)
    assert before["exit"] == -1 and len({*zip(before["x"], before["y"], strict=True)}) > 20
    expect(page.locator(".map-labels span")).to_have_count(10)
    page.locator(CANVAS).hover(position={"x": 200, "y": 100})
    page.mouse.wheel(0, -600)
    page.wait_for_function("c => c.map.zoom.by === 4", arg=page.locator(CANVAS).element_handle())
    after = points(page)
    about = [np.array([200, 100]) * before["unit"] - before["side"] / 2 for _ in range(2)]
    for axis, name in enumerate(("x", "y")):
        wanted = (np.array(before[name]) - about[0][axis]) * 4 + about[0][axis]
        assert np.abs(np.array(after[name]) - wanted).max() < 8
    page.get_by_role("button", name="all of the map").click()
    around(page, CANVAS, 0.02, 0.02, 0.7, 0.98)
    wait_for_address(page, "**region=**")
    page.reload()
    expect(page.get_by_role("button", name="Show all")).to_be_visible()
    expect(page.get_by_role("button", name="last, t-SNE")).to_be_visible()

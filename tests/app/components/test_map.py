"""The map of the images by features and the region, in Chromium: places, colours, and everything narrowed to a drag."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.services import mosaic_data
from dmpo_explore_app.services.policies import OperatingPoint
from made_up import class_names, save_run
from playwright.sync_api import Page, expect
from visiting import Visit, around, wait_for_address

import dmpo_explore as dx

POINTS = """({map: m}) => {
    const side = m.made.atlas.side, width = m.size[0];
    const middle = (i) => (Math.round(m.y[i]) + (side >> 1)) * width + Math.round(m.x[i]) + (side >> 1);
    return {rows: [...m.pictures.rows], x: [...m.x], y: [...m.y], side, unit: m.unit, exit: m.exit,
            colours: [...m.x.keys()].map((i) => m.pixels[middle(i)])} }"""
RESTS = (
    "({map: m}) => m.pictures && m.colours && !m.waiting && m.x.every((x, i) => x === m.toX[i] && m.y[i] === m.toY[i])"
)
CANVAS = ".map-field > canvas"


def points(page: Page) -> dict[str, Any]:
    canvas = page.locator(CANVAS)
    canvas.scroll_into_view_if_needed()
    page.wait_for_function(RESTS, arg=canvas.element_handle())
    return dict(canvas.evaluate(POINTS))


def tab(page: Page, name: str) -> None:
    page.locator(".tabs").get_by_role("button", name=name).click()


def test_points_stand_where_the_record_has_them_at_every_exit(visit: Visit, runs: Path) -> None:
    page, embedding = visit.open("?run=four&threshold=0.8&view=map"), dx.load_run("four").record("test").embedding
    assert embedding is not None
    for exit in (0, 2):
        page.locator(".map").get_by_role("button", name=f"exit {exit + 1}, after block").click()
        found = points(page)
        assert found["exit"] == exit
        wanted = np.asarray(embedding, float)[found["rows"], exit]
        assert np.corrcoef(found["x"], wanted[:, 0])[0, 1] > 0.9999
        assert np.corrcoef(found["y"], wanted[:, 1])[0, 1] < -0.9999  # upwards
        expect(page.locator(".map-labels span")).to_have_count(10)  # the classes, once the points rest


def test_of_many_classes_some_are_named_and_no_names_overlap(visit: Visit) -> None:
    page = visit.open("?run=many&threshold=0.8&view=map")
    points(page)
    labels = page.locator(".map-labels span")
    expect(labels).not_to_have_count(0)
    boxes = labels.evaluate_all("all => all.map(l => [parseFloat(l.style.left), parseFloat(l.style.top)])")
    assert 3 <= len(boxes) <= 101
    near = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if abs(a[0] - b[0]) < 100 and abs(a[1] - b[1]) < 15]
    assert near == []
    assert set(labels.all_inner_texts()) <= {name if len(name) <= 20 else f"{name[:19]}…" for name in class_names(101)}


def test_colours_follow_the_thumb_without_a_message(visit: Visit, runs: Path) -> None:
    page, record = visit.open("?run=four&threshold=0.5&view=map"), dx.load_run("four").record("test")
    page.locator(".map").get_by_role("button", name="exit", exact=True).click()
    before = points(page)
    sent = page.evaluate("() => window.lastSent")
    page.get_by_role("slider").evaluate("thumb => thumb.scrollIntoView({block: 'center'})")
    box = page.get_by_role("slider").bounding_box()
    assert box
    page.mouse.move(box["x"] + 11, box["y"] + 11)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 11, steps=3)
    expect(page.locator(".threshold-slider")).not_to_have_attribute("data-threshold", "0.5")
    label = page.locator(".threshold-slider").get_attribute("data-threshold") or ""
    now = points(page)
    assert page.evaluate("() => window.lastSent") == sent  # the pointer is still down
    page.mouse.up()
    exits = dx.fit_policy(record, threshold=float(label)).exits(record)[now["rows"]]
    places = np.array([now["x"], now["y"]]).T
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e6 * np.eye(len(places))
    alone = np.flatnonzero(away.min(axis=1) > 1.5 * now["side"])  # not under another point
    colours = {int(k): {now["colours"][i] for i in alone if exits[i] == k} for k in set(exits[alone])}
    assert len(alone) > 50 and len(colours) > 1 and before["colours"] != now["colours"]
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


@pytest.mark.parametrize("canvas", [CANVAS, ".field > canvas"])
def test_a_drag_around_images_narrows_everything_and_escape_clears(visit: Visit, runs: Path, canvas: str) -> None:
    view = "map" if canvas == CANVAS else "mosaic"
    page, record = visit.open(f"?run=four&threshold=0.8&view={view}"), dx.load_run("four").record("test")
    around(page, canvas, 0.02, 0.3, 0.5, 0.98)
    chip = page.get_by_role("button", name="Show all")
    expect(chip).to_be_visible()
    visit.settle()
    region = page.locator(canvas).evaluate("canvas => (canvas.mosaic ?? canvas.map).data.region")
    rows = np.frombuffer(base64.b64decode(region), "<u4").astype(int)
    assert 10 < rows.size < 590
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    own = dx.summarise(record.subset(rows), exits[rows])
    assert visit.numbers() == [f"{own['accuracy']:.2%}", f"{1 - own['flops_fraction']:.1%}"]
    expect(page.locator(".of")).to_contain_text(f"Only the {rows.size} images of the region.")
    assert [int(text) for text in page.locator(".head .count").all_text_contents()] == np.bincount(
        exits[rows], minlength=4
    ).tolist()
    tab(page, "Map")
    found, inside = points(page), set(rows.tolist())
    full = [colour >> 24 == 255 for colour in found["colours"]]
    kept = [row in inside for row in found["rows"]]
    assert np.mean([a == b for a, b in zip(full, kept, strict=True)]) > 0.85  # but for points that lie on others
    tab(page, "Confidence")
    expect(page.locator(".histogram .title span").first).to_have_text(f"{rows.size} reach it")
    tab(page, "Gallery")
    page.wait_for_selector(".dx-shown")
    visit.settle()
    shown = [int(title.split("image ")[1].split(":")[0]) for title in visit.images()]
    assert record.meta.indices is not None and set(shown) <= set(record.meta.indices[rows].tolist())
    tab(page, "Map" if canvas == CANVAS else "Mosaic")
    page.locator(canvas).press("Escape")
    expect(chip).to_be_hidden()
    expect(page.locator(".of")).to_have_text("")


def test_a_click_on_a_point_chooses_its_image_and_the_chip_clears_a_region(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.8&view=map")
    found = points(page)
    middle = found["side"] / 2
    page.locator(CANVAS).click(position={"x": found["x"][5] + middle, "y": found["y"][5] + middle})
    wait_for_address(page, "**image=**")
    expect(page.locator(".map-preview")).to_contain_text("confidence")
    visit.settle()
    page.locator(".drawer").press("Escape")
    visit.settle()
    around(page, CANVAS, 0.02, 0.02, 0.6, 0.6)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".only")).to_be_hidden()


def test_a_record_without_an_embedding_shows_no_map(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=six&threshold=0.8")
    expect(page.locator(".tabs").get_by_role("button", name="Confidence")).to_be_visible()
    expect(page.locator(".tabs").get_by_role("button", name="Map")).to_be_hidden()


def test_the_command_is_shown_where_it_can_make_a_map(tmp_path: Path) -> None:
    save_run(tmp_path, "my run", images=60)

    def note(run: dx.Run) -> tuple[str, str]:
        return mosaic_data.map_note(OperatingPoint(run, "test", dx.fit_policy(run.record("test"), threshold=0.5)))

    run = dx.load_run(tmp_path / "my run")
    assert note(run) == ("", "")  # scores of another program: nothing can be run
    (run.path / "weights.safetensors").write_bytes(b"")
    assert note(run)[1] == "dmpo-explore record 'my run' --split test --features --force"
    save_run(tmp_path, "mapped", images=60, embedding=True)
    assert note(dx.load_run(tmp_path / "mapped")) == ("", "")

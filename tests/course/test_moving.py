"""The animation in a notebook: it plays again as a new drawing, and its PNG is the drawing of the end."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from typing import Any

import pytest

import dmpo_explore as dx
from dmpo_explore.course.moving import Moving, still, travel


@pytest.fixture(scope="module")
def shown() -> Moving:
    run = dx.load_run("fashion")
    policy = dx.fit_policy(run.record("calibration"), flops=0.30)
    return travel(run.image_set("test"), dx.apply(policy, run.record("test")), range(40))


def test_it_shows_these_images_at_their_exits(shown: Moving) -> None:
    root = ET.fromstring(shown.shown.value)
    counts = "34 at exit 1, 4 at exit 2, 1 at exit 3, 1 at exit 4, 0 at exit 5, 0 at exit 6"
    assert root.get("aria-label") == f"40 images pass through 6 stages and exit: {counts}"
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "image 0: Ankle boot, predicted Ankle boot" and len(titles) == 40


def test_a_click_plays_it_again_with_styles_of_its_own(shown: Moving) -> None:
    before = shown.shown.value
    shown.button.click()
    first, second = (text.split('class="')[1].split('"')[0] for text in (before, shown.shown.value))
    assert first != second and before.replace(first, "") == shown.shown.value.replace(second, "")


def test_the_still_figure_is_the_drawing_without_motion(shown: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr("dmpo_explore.course.moving.picture", lambda figure: found.append(figure) or {"image/png": ""})
    bundle = shown._repr_mimebundle_()
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    svg = base64.b64decode(found[0].layout.images[0].source.split(",")[1]).decode()
    assert svg == shown.draw("still", False) and "animation" not in svg
    size = ET.fromstring(svg)
    assert (found[0].layout.width, found[0].layout.height) == (int(size.get("width", "")), int(size.get("height", "")))
    assert still(svg) == found[0]

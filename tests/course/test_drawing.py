"""The drawing of the network: one part marked, shown by a cell's output, an unknown part named."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from dmpo_explore.course.drawing import network


@pytest.mark.parametrize(("today", "marked"), [("trunk", 1), ("bypass", 1), ("predictor", 1), ("exit", 1), ("all", 4)])
def test_the_part_of_the_day_is_marked(today: str, marked: int) -> None:
    svg = network(today)._repr_mimebundle_()["image/svg+xml"]
    assert ET.fromstring(svg).tag.endswith("svg") and svg.count(">today<") == marked


@pytest.mark.parametrize("today", ["trunk", "bypass", "predictor", "exit", "all"])
def test_it_is_a_png_too_for_notebooks_that_are_not_trusted(today: str) -> None:
    drawn = Image.open(io.BytesIO(base64.b64decode(network(today)._repr_mimebundle_()["image/png"])))
    assert drawn.width > 1000 and drawn.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_its_text_is_its_label() -> None:
    assert network("trunk")._repr_mimebundle_()["text/plain"].endswith("Today: trunk")


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ValueError, match="no part 'head'. Valid: all, bypass, exit, predictor, trunk"):
        network("head")

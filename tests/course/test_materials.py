"""Drawings mark one part and show everywhere; the study's tables are those of benchmarks/results; others are named."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

import tables
from dmpo_explore.course.interactive import TABLES, network, study_table


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


@pytest.mark.slow
@pytest.mark.parametrize("name", tables.TABLES)
def test_the_copy_is_what_the_results_hold(name: str) -> None:
    text = TABLES[name].read_text(encoding="utf-8")
    assert text == tables.TABLES[name](), "run python notebooks/tables.py"
    assert len(text) < 50_000


def test_every_table_is_written_and_read() -> None:
    assert sorted(TABLES) == sorted(tables.TABLES)
    assert study_table("claims")["seeds"].map(type).eq(str).all()  # "+0.50 +0.10", or a single "+1.10"


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown part 'head'. Valid: all, bypass, exit, predictor, trunk"):
        network("head")
    with pytest.raises(ValueError, match=r"unknown table 'nonsense'. Valid: claims, last-exit"):
        study_table("nonsense")

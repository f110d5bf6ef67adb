"""Drawings mark one part and show everywhere; the study's tables are those of benchmarks/results; others are named."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from PIL import Image

import tables
from dmpo_explore.course.interactive import TABLES, Guess, network, study_table


@pytest.mark.slow
@pytest.mark.parametrize("name", tables.TABLES)
def test_the_copy_is_what_the_results_hold(name: str) -> None:
    text = TABLES[name].read_text(encoding="utf-8")
    assert text == tables.TABLES[name](), "run python notebooks/tables.py"
    assert len(text) < 50_000


def test_every_table_is_written_and_read() -> None:
    assert sorted(TABLES) == sorted(tables.TABLES)
    assert study_table("claims")["seeds"].map(type).eq(str).all()  # "+0.50 +0.10", or a single "+1.10"


@pytest.mark.parametrize(("today", "marked"), [("trunk", 1), ("bypass", 1), ("predictor", 1), ("exit", 1), ("all", 4)])
def test_the_part_of_the_day_is_marked_in_every_form_that_a_notebook_shows(today: str, marked: int) -> None:
    shown = network(today)._repr_mimebundle_()
    svg = shown["image/svg+xml"]
    assert ET.fromstring(svg).tag.endswith("svg") and svg.count(">today<") == marked
    assert marked > 1 or shown["text/plain"].endswith(f"Today: {today}")
    drawn = Image.open(io.BytesIO(base64.b64decode(shown["image/png"])))  # where a notebook is not trusted
    assert drawn.width > 1000 and drawn.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: network("head"), "unknown part 'head'. Valid: all, bypass, exit, predictor, trunk"),
        (lambda: study_table("nonsense"), "unknown table 'nonsense'. Valid: claims, last-exit"),
        (lambda: Guess("Which?", "predictor"), "1 options: a guess needs two"),
    ],
)
def test_what_is_not_there_is_named(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()

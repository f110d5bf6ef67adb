"""Diagrams: drawn anew they are what is committed, readable, and of both palettes. The animation is one."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from PIL import Image

from builder.diagrams import DIAGRAMS, NETWORK, PARTS, network, stage
from builder.pages import DOCS, ROOT
from builder.svg import WIDTH, Drawing


@pytest.mark.parametrize("make", DIAGRAMS, ids=lambda make: make.__name__)
def test_a_diagram_is_what_the_library_gives(make: Callable[[], Drawing]) -> None:
    drawing = make()
    committed = (DOCS / "assets" / f"{drawing.name}.svg").read_text(encoding="utf-8")
    assert drawing.to_svg() == committed
    root = ET.fromstring(committed)
    assert root.get("role") == "img" and root.get("aria-label") == drawing.label
    texts = root.findall(".//{http://www.w3.org/2000/svg}text")
    assert texts and all(
        0 <= float(t.get("x", "-1")) <= WIDTH and 0 < float(t.get("y", "-1")) <= drawing.height for t in texts
    )


def test_every_notebook_opens_with_the_network_and_marks_a_part_of_it() -> None:
    drawings = {drawing.name: drawing for drawing in network()}
    scripts = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
    opened = [re.findall(r"^dx\.course\.network\(\"(\w+)\"\)$", s.read_text(encoding="utf-8"), re.M) for s in scripts]
    assert [len(found) for found in opened] == [1] * len(scripts)
    assert {found[0] for found in opened} == set(drawings) == {path.stem for path in NETWORK.glob("*.svg")}
    for name, drawing in drawings.items():
        assert (NETWORK / f"{name}.svg").read_text(encoding="utf-8") == drawing.to_svg()
        assert drawing.to_svg().count(">today<") == (len(PARTS) if name == "all" else 1)
    assert ">today<" not in stage().to_svg()


def test_every_diagram_is_on_a_page_and_no_other() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    used = set(re.findall(r"\(assets/([\w-]+)\.svg\)", pages))
    assert used == {make().name for make in DIAGRAMS} == {path.stem for path in (DOCS / "assets").glob("*.svg")}


def test_colours_are_variables_for_both_palettes() -> None:
    drawing = Drawing("x", 100, "a < b")
    drawing.box(0, 0, 50, 40, "two\nlines", colour="blue")
    drawing.arrow((0, 0), (10, 0))
    text = drawing.to_svg()
    assert "prefers-color-scheme:dark" in text and "var(--dx-blue)" in text and 'aria-label="a &lt; b"' in text
    assert re.sub(r"<style>.*?</style>", "", text, flags=re.S).count("#") == 0


def test_the_animation_moves_and_is_small() -> None:
    path = DOCS / "app.webp"
    with Image.open(path) as image:
        assert image.n_frames > 20  # type: ignore[attr-defined]
    assert 100_000 < path.stat().st_size <= 3_000_000

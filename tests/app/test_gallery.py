"""Which pictures are shown, and that every text in their HTML is text."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import HOSTILE
from PIL import Image
from synthetic import make_record

import gallery
import loading


@given(rows=st.integers(0, 60), page=st.integers(0, 500), size=st.integers(1, 20))
def test_a_page_holds_each_image_once_and_pages_reach_all(rows: int, page: int, size: int) -> None:
    images = np.arange(rows) * 3
    shown = gallery.page_of(images, page, size)
    assert len(shown) == len(set(shown.tolist())) == min(rows, size)
    pages = -(-rows // size)
    reached = {row for p in range(page, page + pages) for row in gallery.page_of(images, p, size).tolist()}
    assert reached == set(images.tolist())


def test_the_order_is_fixed() -> None:
    assert np.array_equal(gallery.shuffled(50), gallery.shuffled(50))
    assert sorted(gallery.shuffled(50)) == list(range(50))


def test_figures_say_what_the_exit_said() -> None:
    record = make_record(20, 3, 4)
    right, wrong = (int(np.flatnonzero(record.correct[:, 1] == value)[0]) for value in (True, False))
    text = gallery.figures(record, 1, [right, wrong], lambda row: f"data:,{row}")
    names = record.meta.class_names
    assert f"<b>✓</b> {names[record.labels[right]]}</figcaption>" in text
    assert f"<b>✗</b> {names[record.prediction[wrong, 1]]}<small>is {names[record.labels[wrong]]}</small>" in text
    assert text.count("<img ") == text.count(' alt="') == 2
    assert f'src="data:,{right}"' in text
    assert "<img" not in gallery.figures(record, 1, [right], None)


def test_class_names_are_text() -> None:
    record = make_record(20, 3, 4, class_names=(HOSTILE, '"><script>', "c", "d"))
    text = gallery.figures(record, 1, range(20), None)
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text and "&lt;img src=x" in text


def test_an_exit_without_images_has_a_heading() -> None:
    record = make_record(20, 3, 4)
    header = gallery.exit_header(record, 2, [20, 0, 0], 0.0, "rgb(1, 2, 3)")
    assert "Exit 3" in header and "after block 9" in header and "0 images (0.0%)" in header and "right" not in header
    assert "75.0% right" in gallery.exit_header(record, 0, [4, 0, 0], 0.75, "red")


@pytest.mark.parametrize(("size", "kind"), [((28, 28), "PNG"), ((400, 300), "JPEG")])
def test_small_pictures_stay_exact_and_large_ones_shrink(size: tuple[int, int], kind: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    head, body = loading.data_uri(picture).split(",")
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == f"data:image/{kind.lower()};base64"
    assert image.format == kind and max(image.size) <= loading.THUMBNAIL
    if kind == "PNG":
        assert np.array_equal(np.asarray(image), picture)

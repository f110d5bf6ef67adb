"""Images as HTML: predictions are those of the exit, and every text is text."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from dmpo_explore_app.components import gallery
from dmpo_explore_app.services import thumbnails
from made_up import HOSTILE
from PIL import Image
from synthetic import make_record

import dmpo_explore as dx


def test_figures_show_the_predictions_of_the_exit() -> None:
    record = make_record(20, 3, 4)
    right, wrong = (int(np.flatnonzero(record.correct[:, 1] == value)[0]) for value in (True, False))
    text = gallery.figures(record, 1, [right, wrong], lambda row: f"data:,{row}")
    names = record.meta.class_names
    assert f"<b>✓</b> {names[record.labels[right]]}</figcaption>" in text
    assert f"<b>✗</b> {names[record.prediction[wrong, 1]]}<small>is {names[record.labels[wrong]]}</small>" in text
    assert text.count("<img ") == text.count(' alt="') == 2
    assert f'src="data:,{right}"' in text
    assert "<img" not in gallery.figures(record, 1, [right], None)


def test_a_picture_does_not_look_at_the_whole_record(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(20, 3, 4)
    monkeypatch.setattr(type(record), "correct", property(lambda _: pytest.fail("all images were looked at")))
    assert gallery.figures(record, 1, range(20), None).count("<li") == 20


def test_classes_that_share_a_name_are_not_taken_for_each_other() -> None:
    record = make_record(60, 3, 4, class_names=("same", "same", "c", "d"))
    said, truth = record.prediction[:, 1], record.labels
    rows = np.flatnonzero((said < 2) & (truth < 2) & (said != truth))
    assert rows.size
    text = gallery.figures(record, 1, rows, None)
    assert "✓" not in text and text.count('class="incorrect"') == rows.size == text.count("<small>is same")


def test_class_names_are_text() -> None:
    record = make_record(20, 3, 4, class_names=(HOSTILE, '"><script>', "c", "d"))
    text = gallery.figures(record, 1, range(20), None)
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text and "&lt;img src=x" in text


def test_pictures_can_be_buttons() -> None:
    record = make_record(20, 3, 4, class_names=(HOSTILE, "b", "c", "d"))
    text = "".join(gallery.figure(record, 1, row, lambda row: f"data:,{row}", row == 4) for row in (3, 4))
    assert re.findall(r'data-pick="image (\d+)".*?aria-pressed="(\w+)"', text) == [("3", "false"), ("4", "true")]
    assert HOSTILE not in text


def test_an_exit_shows_how_many_are_chosen() -> None:
    record = make_record(20, 3, 4)
    header = gallery.exit_header(record, 2, 0, 0, 0.0, "rgb(1, 2, 3)")
    assert "Exit 3" in header and "after block 9" in header and "0 exit here" in header and "correct" not in header
    assert "3 chosen of 1,200 that exit here · 75.0% correct" in gallery.exit_header(record, 0, 3, 1200, 0.75, "red")


def test_the_heat_map_adds_up_and_is_text() -> None:
    record = make_record(90, 3, 4, class_names=(HOSTILE, '"><script>', "c", "d"))
    outcome = dx.Outcome(record, np.arange(90) % 3)
    marked = int(np.flatnonzero((record.labels == 0) & (outcome.exits == 1))[0])
    text = gallery.heat_map(outcome, (2, 3), marked)
    assert HOSTILE not in text and "<script" not in text
    counts = [int(n) for n in re.findall(r'aria-label="[^"]*\((\d+) images', text)]
    assert len(counts) == 12 and sum(counts) == 90
    pressed = re.findall(r'data-pick="([^"]*)"[^>]*aria-pressed="true"', text)
    assert pressed == ["cell 2 3"] and text.count("data-marked") == 1
    everything = re.findall(r'data-pick="([^"]*)"', text)
    assert len(set(everything)) == 3 + 4 + 12


@pytest.mark.parametrize(("size", "kind"), [((28, 28), "PNG"), ((400, 300), "JPEG")])
def test_small_pictures_stay_exact_and_large_ones_shrink(size: tuple[int, int], kind: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    head, body = dx.figures.thumbnail_address(picture).split(",")
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == f"data:image/{kind.lower()};base64"
    assert image.format == kind and max(image.size) <= thumbnails.THUMBNAIL
    if kind == "PNG":
        assert np.array_equal(np.asarray(image), picture)


def test_grey_pictures_are_a_third_of_the_bytes() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8), 3, axis=2)
    image = Image.open(io.BytesIO(base64.b64decode(dx.figures.thumbnail_address(grey).split(",")[1])))
    assert image.mode == "L" and np.array_equal(np.asarray(image), grey[..., 0])

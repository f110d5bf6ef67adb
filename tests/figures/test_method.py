"""Figures of the method's parts: traces hold the arrays' numbers."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from dmpo_explore.figures.style import CORRECT, GREY, INCORRECT
from dmpo_explore.figures.training import exit_predictions_figure, schedule_figure

PIXELS = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)


def test_exit_predictions_show_image_predictions_and_exit() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat", "Bag"], [0.5, 0.9, 0.7], [True, False, True], 1, 0.8)
    (bars,) = figure.data
    assert list(bars.x) == ["exit 1", "exit 2", "exit 3"] and list(bars.y) == [0.5, 0.9, 0.7]
    assert list(bars.text) == ["Bag<br>50%", "Coat<br>90%", "Bag<br>70%"]
    assert list(bars.marker.color) == [CORRECT, INCORRECT, CORRECT]
    assert list(bars.marker.opacity) == [1.0, 1.0, 0.3]  # exit 3 does not run
    assert figure.layout.annotations[0].x == "exit 2" and figure.layout.shapes[0].y0 == 0.8
    shown = Image.open(io.BytesIO(base64.b64decode(figure.layout.images[0].source.split(",")[1])))
    assert shown.size == (240, 240)
    np.testing.assert_array_equal(np.asarray(shown)[::60, ::60], PIXELS)


def test_texts_lie_flat_and_the_exit_is_marked_only_where_a_threshold_decides() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat"], [0.5, 0.9], [True, False], 1)
    assert figure.data[0].textangle == 0 and not figure.layout.annotations


def test_a_text_that_the_threshold_would_cross_stands_in_its_bar() -> None:
    figure = exit_predictions_figure(PIXELS, ["Bag", "Coat", "Bag"], [0.7, 0.9, 0.75], [True] * 3, 1, 0.8)
    assert list(figure.data[0].textposition) == ["inside", "outside", "inside"]
    assert list(figure.data[0].insidetextfont.color) == ["white", "white", GREY]  # grey on the faint bar


def test_predictions_of_an_image_without_label_are_neither_correct_nor_incorrect() -> None:
    (bars,) = exit_predictions_figure(PIXELS, ["Bag", "Coat"], [0.5, 0.9], None, exit=1).data
    assert list(bars.marker.color) == [GREY, GREY] and list(bars.marker.pattern.shape) == ["", ""]


def test_a_schedule_is_a_line_per_exit_with_the_epoch_marked() -> None:
    weights = np.array([[0.0, 2.0], [0.5, 1.5], [1.0, 1.0]])
    figure = schedule_figure(weights, epoch=1)
    lines, marks = figure.data[::2], figure.data[1::2]
    for k in (0, 1):
        np.testing.assert_array_equal(lines[k].y, weights[:, k])
        assert list(lines[k].x) == [1, 2, 3]
        assert list(marks[k].y) == [None, weights[1, k], None]
    assert figure.layout.shapes[0].x0 == 2  # counted from 1
    assert not schedule_figure(weights).layout.shapes

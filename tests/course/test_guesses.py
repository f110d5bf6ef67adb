"""Guesses: locked once, drawn only when locked."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from dmpo_explore.course.guesses import guess


def test_a_guess_has_no_value_until_it_is_locked_and_keeps_it_afterwards() -> None:
    asked = guess("How many?", 0, 10)
    asked.control.value = 7.0
    assert asked.value is None
    asked.button.click()
    assert asked.value == 7.0 and asked.button.disabled and asked.control.disabled


@pytest.mark.parametrize(("axis", "shape"), [("y", ("y0", "y1")), ("x", ("x0", "x1"))])
def test_a_locked_number_is_a_line_across_the_axis(axis: str, shape: tuple[str, str]) -> None:
    asked, figure = guess("How many?", 0, 10), go.Figure(go.Scatter(y=[1, 2]))
    assert not asked.on(figure, axis).layout.shapes
    asked.control.value = 3.0
    asked.lock()
    (line,) = asked.on(figure, axis).layout.shapes
    assert [line[end] for end in shape] == [3.0, 3.0]


def test_a_locked_word_stands_above_the_figure() -> None:
    asked = guess("Which?", "bypass", "predictor")
    asked.control.value = "predictor"
    asked.lock()
    (note,) = asked.on(go.Figure()).layout.annotations
    assert note.text == "your guess: predictor"


def test_a_guess_between_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 options: a guess needs two"):
        guess("Which?", "predictor")

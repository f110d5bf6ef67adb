"""Guesses: a reader locks one before a result is drawn, and the figure shows both.

In: a question with bounds, or with choices. Out: `Guess`, a widget with a button. Its `value` is None until the button
is pressed, and stays as it is afterwards.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from ..utils.extras import extra_imports

with extra_imports("a notebook's guess", "notebooks"):
    import ipywidgets as widgets

COLOUR = "#a0522d"
OPEN = "Lock my guess"


class Guess(widgets.VBox):  # type: ignore[misc]
    """A question, a control and a button that locks it: a slider between two numbers, or one of several words.

    Raises:
        ValueError: fewer than two options.

    Example:
        >>> asked = Guess("Which part gains more?", "bypass", "predictor")
        >>> asked.value is None
        True
        >>> asked.lock()
        >>> asked.value
        'bypass'
    """

    def __init__(self, question: str, *options: Any) -> None:
        if len(options) < 2:
            raise ValueError(f"{len(options)} options: a guess needs two numbers, or two words")
        self.question = question
        self.number = len(options) == 2 and not any(isinstance(option, str) for option in options)
        row = {"layout": {"width": "700px"}}
        if self.number:
            low, high = map(float, options)
            self.control = widgets.FloatSlider((low + high) / 2, min=low, max=high, step=(high - low) / 100, **row)
        else:
            self.control = widgets.ToggleButtons(options=options, style={"button_width": "auto"}, **row)
        self.button = widgets.Button(description=OPEN, icon="lock")
        self.button.on_click(lambda _: self.lock())
        super().__init__([widgets.HTML(f"<b>Your guess.</b> {question}"), self.control, self.button])

    @property
    def value(self) -> Any:
        """What was locked; None before that."""
        return self.control.value if self.button.disabled else None

    def lock(self) -> None:
        """Keep the present value for good."""
        self.control.disabled = self.button.disabled = True
        self.button.description = "Locked"

    def on(self, figure: go.Figure, axis: str = "y", **place: Any) -> go.Figure:
        """``figure`` with the guess in it: a dotted line across ``axis``, or a line of words on top.

        Without a locked guess the figure stays as it is.
        """
        if self.value is None:
            return figure
        if self.number:
            draw = figure.add_hline if axis == "y" else figure.add_vline
            note = {"annotation_text": "your guess", "annotation_font_color": COLOUR}
            return draw(self.value, line={"color": COLOUR, "dash": "dot"}, **note, **place)
        place = {"x": 1, "y": 1.01, "xref": "paper", "yref": "paper"} | place
        place |= {"text": f"your guess: {self.value}", "font": {"color": COLOUR}, "showarrow": False}
        return figure.add_annotation(xanchor="right", yanchor="bottom", **place)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        return bundle | {"text/plain": f"a guess to lock: {self.question}"}


def guess(question: str, *options: Any) -> Guess:
    """A guess at a number, by a slider from the first to the second of two numbers, or at one of several words.

    Example:
        >>> guess("How many points?", 0, 20).number
        True
    """
    return Guess(question, *options)

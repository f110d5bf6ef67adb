"""What a reader moves in a notebook: figures that follow sliders, and guesses that are locked before a result is drawn.

In: a function from values to a plotly figure, with ipywidgets controls; a question with bounds or choices. Out: `Live`,
`Guess`, both widgets. Importing this makes every figure that ends a cell show itself.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from ..utils.lazy import extra_imports
from ..utils.registry import lookup

with extra_imports("a notebook's interactive figure", "notebooks"):
    import ipywidgets as widgets

PLOTLY = "application/vnd.plotly.v1+json"
WIDTH, HEIGHT = 820, 380  # of a figure that says nothing else
INK = "#444444"  # words on white, 9.7:1
GUESSED = "#a0522d"


class Live(widgets.VBox):  # type: ignore[misc]
    """Controls above a figure that follows them: ``draw(**values)`` now, and again whenever a control moves.

    The figure is an output and no `go.FigureWidget`, which keeps 5 MB of JavaScript in every notebook that is saved.

    Args:
        draw: values of the controls by name → a figure, or a figure and one line that is put above it.
        controls: ipywidgets; one without a description has its name as label.
    """

    def __init__(self, draw: Callable[..., Any], **controls: widgets.Widget) -> None:
        self.draw, self.controls, self.output = draw, controls, widgets.Output()
        self.redraw()
        super().__init__([*controls.values(), self.output])
        for name, control in controls.items():
            control.description = control.description or name
            control.style.description_width, control.layout.width = "110px", "520px"
            control.observe(self.redraw, names="value")

    def drawn(self) -> go.Figure:
        """The figure for the controls' present values."""
        result = self.draw(**{name: control.value for name, control in self.controls.items()})
        figure, line = result if isinstance(result, tuple) else (result, "")
        if line:
            rows = wrap(line, (figure.layout.width or WIDTH) // 8)  # a letter takes at most 8 pixels on average
            title = {"text": "<br>".join(rows), "font": {"size": 15}, "x": 0.01, "y": 0.97, "yanchor": "top"}
            height = (figure.layout.height or HEIGHT) + 20 * (len(rows) - 1)
            figure.update_layout(title=title, margin_t=60 + 20 * len(rows), height=height)
        return on_white(figure).update_layout(width=figure.layout.width or WIDTH)

    def redraw(self, change: object = None) -> None:
        """Show the figure for the controls' present values."""
        self.figure = self.drawn()
        data = {PLOTLY: json.loads(self.figure.to_json()), "text/plain": "a figure"}
        self.output.layout.min_height = f"{self.figure.layout.height + 20}px"  # the page does not jump
        self.output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


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
        self.button = widgets.Button(description="Lock my guess", icon="lock")
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

    def on(self, figure: go.Figure, axis: str = "y") -> go.Figure:
        """``figure`` with the locked guess in it: a dotted line across ``axis``, or a line of words on top."""
        if self.value is None:
            return figure
        if self.number:
            draw = figure.add_hline if axis == "y" else figure.add_vline
            return draw(
                self.value,
                line={"color": GUESSED, "dash": "dot"},
                annotation_text="your guess",
                annotation_font_color=GUESSED,
            )
        place = {"x": 1, "y": 1.01, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
        return figure.add_annotation(
            text=f"your guess: {self.value}", font={"color": GUESSED}, showarrow=False, **place
        )

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        return bundle | {"text/plain": f"a guess to lock: {self.question}"}


def on_white(figure: go.Figure) -> go.Figure:
    """Give ``figure`` a white ground, dark words and a height, so that it reads alike on light and dark pages.

    No colour of words has a contrast of 4.5:1 both on white and on a dark page.
    """
    return figure.update_layout(paper_bgcolor="white", font_color=INK, height=figure.layout.height or HEIGHT)


class _Renderer(MimetypeRenderer):  # type: ignore[misc]
    """Interactive in JupyterLab and VS Code, on white; notebooks/pictures.py makes PNG images of it."""

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        return {PLOTLY: on_white(go.Figure(fig_dict)).to_plotly_json(), "text/plain": "a figure"}


pio.renderers["on_white"] = _Renderer()
if "google.colab" in sys.modules:  # it draws Plotly figures by its own renderer
    sys.modules["google.colab"].output.enable_custom_widget_manager()
else:
    pio.renderers.default = "on_white"


# What lessons show of files in the package: the drawing of one stage of the network, and tables of the study.
#
# In: a name. Out: an image that ends a cell, as SVG and as PNG (JupyterLab shows no SVG of a notebook that it does not
# trust), or a table. The drawings are made by ``python -m builder.diagrams`` in docs/, the tables are copies of those
# in ``benchmarks/results``, by ``notebooks/tables.py``.

DRAWINGS = {path.stem: path for path in (Path(__file__).parent / "network").glob("*.svg")}
TABLES = {path.stem: path for path in (Path(__file__).parent / "study").glob("*.csv")}


@dataclass(frozen=True)
class Drawing:
    """An image that a notebook shows: the text of its SVG, and the same as a PNG."""

    svg: str
    png: bytes

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        label = self.svg.partition('aria-label="')[2].partition('"')[0]
        png = base64.b64encode(self.png).decode("ascii")
        return {"image/svg+xml": self.svg, "image/png": png, "text/plain": label}


def network(today: str = "all") -> Drawing:
    """Trunk, bypass, predictor and exit of one stage, with one of them marked, or ``all``.

    Raises:
        ValueError: no such part; the parts are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.course.network("bypass").svg.count(">today<")
        1
    """
    svg = lookup(DRAWINGS, today, "part")
    return Drawing(svg.read_text(encoding="utf-8"), svg.with_suffix(".png").read_bytes())


def study_table(name: str) -> pd.DataFrame:
    """Differences of accuracy over images and trainings, a row each.

    Args:
        name: ``claims`` (those that the second edition claims, by data set) or ``last-exit`` (on photographs: the last
            exit of naive exits and of DMPO against a net that has no other).

    Raises:
        ValueError: no such table; the tables are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> sorted(dx.course.study_table("claims")["study"].unique())
        ['caltech', 'fashion', 'fashion-cnn']
    """
    return pd.read_csv(lookup(TABLES, name, "table"), dtype={"seeds": str})

"""Interactive figures of the notebooks, which follow sliders, and static PNG images of them for pages without a kernel.

In: a short function from values to a plotly figure, and ipywidgets controls. Out: a widget. Importing this makes every
figure that ends a cell show itself. Where the environment has ``NOTEBOOK_PICTURES`` (scripts/notebooks sets it) each
figure carries a PNG beside its live form, which is what GitHub shows; that needs kaleido and Chromium.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from ..figures.style import GREY
from ..utils.extras import extra_imports

with extra_imports("a notebook's interactive figure", "notebooks"):
    import ipywidgets as widgets

LETTER = 8  # pixels that a letter of a line above a figure takes at most, on average
PLOTLY = "application/vnd.plotly.v1+json"
WIDTH, HEIGHT, SCALE = 820, 380, 1.5  # of a PNG: CSS pixels, pixels per CSS pixel

INK = "#444444"  # words on white, 9.7:1

Draw = Callable[..., go.Figure | tuple[go.Figure, str]]


def slider(label: str, low: float, high: float, value: float, step: float | None = None) -> widgets.Widget:
    """A slider that updates while it is dragged: integers if all of its numbers are, else floats."""
    whole = all(isinstance(number, int) for number in (low, high, value, step or 1))
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    options = {"step": step or (1 if whole else (high - low) / 200), "continuous_update": True}
    look = {"style": {"description_width": "110px"}, "layout": {"width": "520px"}}
    return kind(value, min=low, max=high, description=label, **options, **look)


def choice(label: str, options: Sequence[Any]) -> widgets.Widget:
    """A choice of one option by a row of buttons, the first pressed."""
    row = {"display": "flex", "flex_flow": "row", "width": f"{WIDTH}px", "margin": "2px 2px 8px"}  # label, then buttons
    style = {"description_width": "110px", "button_width": "auto"}
    return widgets.ToggleButtons(options=options, description=label, style=style, layout=row)


def live(draw: Draw, **controls: widgets.Widget) -> Live:
    """An interactive figure: ``draw(**values)`` now, and again whenever a control moves.

    Args:
        draw: values of the controls by name → a figure, or a figure and one line that is put above it.
    """
    return Live(draw, controls)


class Live(widgets.VBox):  # type: ignore[misc]
    """A widget of controls above a figure that follows them.

    The figure is an output and no `go.FigureWidget`, which keeps 5 MB of JavaScript in every notebook that is saved.
    """

    def __init__(self, draw: Draw, controls: dict[str, widgets.Widget]) -> None:
        self.draw, self.controls, self.output = draw, controls, widgets.Output()
        self.redraw()
        super().__init__([*controls.values(), self.output])
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def drawn(self) -> go.Figure:
        """The figure for the controls' present values."""
        result = self.draw(**{name: control.value for name, control in self.controls.items()})
        figure, line = result if isinstance(result, tuple) else (result, "")
        if line:
            rows = wrap(line, int((figure.layout.width or WIDTH) / LETTER))
            title = {"text": "<br>".join(rows), "font": {"size": 15}, "x": 0.01, "y": 0.97, "yanchor": "top"}
            height = (figure.layout.height or HEIGHT) + 20 * (len(rows) - 1)
            figure.update_layout(title=title, margin_t=60 + 20 * len(rows), height=height)
        layout = figure.layout
        return on_white(figure).update_layout(height=layout.height or HEIGHT, width=layout.width or WIDTH)

    def redraw(self, change: object = None) -> None:
        """Show the figure for the controls' present values."""
        self.figure = self.drawn()
        data = {PLOTLY: json.loads(self.figure.to_json()), "text/plain": "a figure"}
        self.output.layout.min_height = f"{self.figure.layout.height + 20}px"  # the page does not jump
        self.output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        bundle["text/plain"] = "a live figure: run the notebook to move it"
        return bundle | picture(self.figure)


def picture(figure: go.Figure) -> dict[str, str]:
    """{"image/png": base64} of a figure if the environment has ``NOTEBOOK_PICTURES``, else {}."""
    if not os.environ.get("NOTEBOOK_PICTURES"):
        return {}
    from PIL import Image

    maps = any(trace.type in ("image", "heatmap") for trace in figure.data)
    tiles = not maps and any(image.sizing == "stretch" for image in figure.layout.images)  # no sharper when larger
    size = {"width": figure.layout.width or WIDTH, "height": figure.layout.height or HEIGHT}
    options = {"format": "png", "scale": 1 if tiles else SCALE, **size}
    png = _kaleido().calc_fig_sync(figure.to_plotly_json(), opts=options)
    whole, out = Image.open(io.BytesIO(png)).convert("RGBA"), io.BytesIO()
    if figure.layout.images or maps:  # many colours, smooth
        small = whole.quantize(128, method=Image.Quantize.FASTOCTREE)
    else:  # few colours, which must not be taken for each other
        small = whole.convert("RGB").quantize(64, method=Image.Quantize.MEDIANCUT, kmeans=1)
    small.save(out, "png", optimize=True)
    return {"image/png": base64.b64encode(out.getvalue()).decode("ascii")}


def on_white(figure: go.Figure) -> go.Figure:
    """Give ``figure`` a white ground and darker words, so that it reads alike on light and dark pages.

    No colour of words has a contrast of 4.5:1 both on white and on a dark page.
    """
    figure.update_layout(paper_bgcolor="white")
    return figure.update_layout(font_color=INK) if figure.layout.font.color in (GREY, None) else figure


@cache
def _kaleido() -> Any:
    with extra_imports("a notebook's static figure", "dev"):
        import kaleido
    kaleido.start_sync_server(silence_warnings=True)
    return kaleido


class _Renderer(MimetypeRenderer):  # type: ignore[misc]
    """Interactive in JupyterLab and VS Code, a PNG elsewhere."""

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        figure = on_white(go.Figure(fig_dict)).update_layout(height=fig_dict["layout"].get("height", HEIGHT))
        return {PLOTLY: figure.to_plotly_json(), "text/plain": "a figure"} | picture(figure)


pio.renderers["notebook_with_picture"] = _Renderer()
if "google.colab" in sys.modules:  # it draws Plotly figures by its own renderer
    sys.modules["google.colab"].output.enable_custom_widget_manager()
else:
    pio.renderers.default = "notebook_with_picture"

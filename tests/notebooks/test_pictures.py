"""Pictures of an executed lesson: of figures and of what a widget's output shows, in their colours."""

from __future__ import annotations

import base64
import io

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from dmpo_explore.course.interactive import Live, on_white, widgets
from dmpo_explore.figures.style import image_address
from pictures import PLOTLY, VIEW, WIDGETS, add_pictures, figure_of

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them


def of_widgets(*roots: widgets.Widget) -> dict[str, object]:
    """The state of widgets as a notebook keeps it."""
    found = widgets.Widget.get_manager_state(widgets=[part for root in roots for part in _with_parts(root)])
    states: dict[str, object] = found["state"]
    return states


def _with_parts(widget: widgets.Widget) -> list[widgets.Widget]:
    return [widget, *(part for child in getattr(widget, "children", ()) for part in _with_parts(child))]


def test_the_figure_of_a_widget_is_what_its_output_shows() -> None:
    shown = Live(lambda height: go.Figure(go.Bar(y=[height])), height=widgets.IntSlider(4, 0, 9))
    asked = widgets.VBox([widgets.HTML("How many?"), widgets.Button()])
    states = of_widgets(shown, asked)
    assert figure_of(shown.model_id, states)["data"][0]["y"] == [4]
    assert figure_of(asked.model_id, states) is None


@pytest.mark.browser
def test_pale_bands_and_images_keep_their_colours_in_a_picture() -> None:
    pale = ["#d1e6f1", "#d1eee6", "#efe2d7"]
    bands = go.Figure([go.Bar(x=[k], y=[1], marker={"color": colour}) for k, colour in enumerate(pale)])
    pixels = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    image = {"source": image_address(pixels, 4), "xref": "paper", "yref": "paper", "y": 1, "sizex": 1, "sizey": 1}
    live = Live(lambda text: go.Figure(layout={"images": [image]}), text=widgets.Text())
    data = [{PLOTLY: on_white(bands).to_plotly_json()}, {VIEW: {"model_id": live.model_id}}, {"text/plain": "words"}]
    outputs = [nbformat.v4.new_output("display_data", of) for of in data]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    notebook.metadata["widgets"] = nbformat.from_dict({WIDGETS: {"state": of_widgets(live)}})
    add_pictures(notebook)
    few, many, none = (output.data.get("image/png") for output in notebook.cells[0].outputs)
    assert none is None
    shown = Image.open(io.BytesIO(base64.b64decode(few))).convert("RGB").getcolors(1 << 20)
    assert {*pale} <= {f"#{r:02x}{g:02x}{b:02x}" for count, (r, g, b) in shown if count > 10_000}
    palette = Image.open(io.BytesIO(base64.b64decode(many))).getcolors(256)
    assert palette is not None and len(palette) > 64  # an image has more colours than bands

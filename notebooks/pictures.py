"""Pictures of an executed lesson's figures, which is what GitHub and the site show.

In: a notebook with the outputs and the widgets of its run. Out: a PNG beside every figure. Needs kaleido and Chromium.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kaleido
from nbformat import NotebookNode
from PIL import Image

PLOTLY = "application/vnd.plotly.v1+json"
VIEW = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"
WIDTH, SCALE = 820, 1.5  # where a figure says nothing else, CSS pixels; pixels per CSS pixel


def add_pictures(notebook: NotebookNode) -> None:
    """Put a PNG into every output that is a figure, or a widget with a figure in it."""
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    with drawing():
        for cell in notebook.cells:
            for data in [output.data for output in cell.get("outputs", []) if "data" in output]:
                found = data.get(PLOTLY) or (figure_of(data[VIEW]["model_id"], widgets) if VIEW in data else None)
                if found:
                    data["image/png"] = base64.b64encode(picture(found)).decode("ascii")
                if found and VIEW in data:
                    data["text/plain"] = "a live figure: run the notebook to move it"


def figure_of(widget: str, widgets: dict[str, Any]) -> Any:
    """The figure that a widget's output shows; None if it has none."""
    children = widgets[widget]["state"].get("children", [])
    states = [widgets[child.removeprefix("IPY_MODEL_")]["state"] for child in children]
    shown = [output["data"].get(PLOTLY) for state in states for output in state.get("outputs", [])]
    return shown[0] if shown else None


@contextmanager
def drawing() -> Iterator[None]:
    """One Chromium for all pictures that are drawn inside."""
    kaleido.start_sync_server(silence_warnings=True)
    try:
        yield
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def picture(figure: dict[str, Any]) -> bytes:
    """The PNG of a figure as Plotly has it in JSON: data and layout. Inside of `drawing`."""
    layout = figure["layout"]
    maps = any(trace["type"] in ("image", "heatmap") for trace in figure["data"])
    images = layout.get("images", [])
    tiles = not maps and any(image.get("sizing") == "stretch" for image in images)  # no sharper when larger
    size = {"width": layout.get("width", WIDTH), "height": layout["height"]}
    options = {"format": "png", "scale": 1 if tiles else SCALE, **size}
    whole = Image.open(io.BytesIO(kaleido.calc_fig_sync(figure, opts=options))).convert("RGBA")
    if images or maps:  # many colours, smooth
        small = whole.quantize(128, method=Image.Quantize.FASTOCTREE)
    else:  # few colours, which must not be taken for each other
        small = whole.convert("RGB").quantize(64, method=Image.Quantize.MEDIANCUT, kmeans=1)
    out = io.BytesIO()
    small.save(out, "png", optimize=True)
    return out.getvalue()

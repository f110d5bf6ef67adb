"""An animation in a notebook: images travel through the network and exit, and a button plays that again.

In: images, an outcome of a policy, rows. Out: a widget. As `interactive`, it carries a PNG where the environment has
``NOTEBOOK_PICTURES``: the drawing of the end, which stands still on pages without a kernel.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import numpy as np
import plotly.graph_objects as go

import dmpo_explore as dx

from ..utils.extras import extra_imports
from .interactive import picture

with extra_imports("a notebook's animation", "notebooks"):
    import ipywidgets as widgets

_NUMBERS = count(1)  # of the drawings of this kernel: each has styles of its own


def travel(images: dx.data.ImageSet, outcome: dx.Outcome, rows: Iterable[int]) -> Moving:
    """An animation of the images at ``rows``: each travels to its exit, and the frame shows whether it is correct."""
    chosen, record = np.asarray(list(rows)), outcome.record
    names = record.meta.class_names
    texts = [f"image {i}: {names[record.labels[i]]}, predicted {names[outcome.prediction[i]]}" for i in chosen]
    labels = [f"{share:.0%} of compute" for share in record.flops_fraction]
    pixels, exits, correct = np.stack([images[i] for i in chosen]), outcome.exits[chosen], outcome.correct[chosen]

    def draw(name: str, moving: bool) -> str:
        return dx.figures.exit_animation(pixels, exits, correct, labels, texts=texts, name=name, moving=moving)

    return Moving(draw)


class Moving(widgets.VBox):  # type: ignore[misc]
    """A widget that plays an SVG at once and again at a click; ``draw(name, moving)`` gives its text."""

    def __init__(self, draw: Callable[[str, bool], str]) -> None:
        self.draw, self.shown = draw, widgets.HTML(style={"background": "white"})
        self.button = widgets.Button(description="Play again", icon="play")
        super().__init__([self.shown, self.button])
        self.button.on_click(self.play)
        self.play()

    def play(self, button: object = None) -> None:
        """Show the drawing as a new one, so that it starts from its beginning."""
        self.shown.value = self.draw(f"travel-{next(_NUMBERS)}", True)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        bundle["text/plain"] = "an animation: run the notebook to play it"
        return bundle | picture(still(self.draw("still", False)))


def still(svg: str) -> go.Figure:
    """A figure that is this drawing, for its PNG."""
    found = re.search(r'width="(\d+)" height="(\d+)"', svg)
    assert found
    place = {"x": 0, "y": 1, "sizex": 1, "sizey": 1, "xref": "paper", "yref": "paper"}
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
    figure = (
        go.Figure().add_layout_image(source=source, **place).update_xaxes(visible=False).update_yaxes(visible=False)
    )
    look = {"paper_bgcolor": "white", "plot_bgcolor": "white", "template": "none"}
    return figure.update_layout(width=int(found[1]), height=int(found[2]), margin=dict.fromkeys("lrtb", 0), **look)

"""Style of all figures: colours, colour scales, symbols, line dashes and layout.

In: numbers, names and images. Out: values and keyword dictionaries for Plotly; no other file here defines a colour.
Colours are safe for colour-blind readers and are never the only distinction. Exits take the middle of viridis, from
pale to dark, and a symbol each. Models take the Okabe-Ito palette, then five more colours, and a dash each. Correct is
blue, incorrect hatched orange. Backgrounds are transparent and words mid-grey, for light and dark pages; a ``template``
is the caller's choice.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale

from ..utils.texts import abbreviated as abbreviated

BLUE, ORANGE = "#0072B2", "#D55E00"
MODEL_COLOURS = (
    BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9",  # Okabe and Ito
    "#8059B8", "#B2334D", "#8A6239", "#2A8C9E", "#7D8512",
)  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
GREY = "#767676"  # 4.5:1 on white, 4.2:1 on a dark page; no colour has 4.5:1 on both
WHITE = "white"  # of the ring around a marked point
CORRECT = BLUE
INCORRECT = ORANGE
SUPPORTS, OPPOSES = ORANGE, BLUE  # an attribution's sign
TRUNK, BYPASS = BLUE, "#E69F00"
SHADE = "rgba(0,114,178,0.10)"  # of the second phase of a training
HATCH = {"fillmode": "overlay", "solidity": 0.3}

# Colour scales. Heat maps of an attribution lie over the image, so their zero is transparent.
SIGNED_OVERLAY = [[0.0, "rgba(0,114,178,0.85)"], [0.5, "rgba(255,255,255,0)"], [1.0, "rgba(213,94,0,0.85)"]]
UNSIGNED_OVERLAY = [[0.0, "rgba(255,255,255,0)"], [1.0, "rgba(213,94,0,0.85)"]]
SIGNED_CELLS = [[0.0, BLUE], [0.5, "#e2e2e2"], [1.0, ORANGE]]  # opaque: cells beside the image, OPPOSES to SUPPORTS
BORDER = "rgba(150,150,150,0.6)"  # of patches, over an image
SHARES = [[0, "#dce9f3"], [1, BLUE]]  # opaque: a text's colour is chosen for its cell, not for the page behind it

AXIS = {"gridcolor": "rgba(128,128,128,0.3)", "zeroline": False, "automargin": True}  # thin grid
LAYOUT = {  # transparent background, legend above
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 60, "r": 20, "t": 40, "b": 60},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}

LONGEST_NAME = 32  # characters of a class's name on an axis
COMPUTE = "compute (% of the plain backbone)"  # title of an axis of FLOPs fractions


def exit_colours(n_exits: int) -> list[str]:
    """Colours of K exits, from the first to the last, as ``rgb(…)``.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.exit_colours(2)
        ['rgb(124, 209, 79)', 'rgb(53, 95, 140)']
    """
    return list(_exit_colours(n_exits))


@lru_cache(maxsize=64)
def _exit_colours(n_exits: int) -> tuple[str, ...]:
    places = np.linspace(0.8, 0.3, n_exits) if n_exits > 1 else [0.5]
    return tuple(sample_colorscale("viridis", [float(p) for p in places]))


def model_colour(i: int) -> str:
    """Colour of model ``i``; the palette repeats after its end."""
    return MODEL_COLOURS[i % len(MODEL_COLOURS)]


def dash(i: int) -> str:
    """Line dash of model ``i``."""
    return DASHES[i % len(DASHES)]


def symbol(i: int) -> str:
    """Marker symbol of model or exit ``i`` (0-based)."""
    return SYMBOLS[i % len(SYMBOLS)]


def model_line(i: int, width: float | None = None) -> dict[str, Any]:
    """``line`` of model ``i``: its colour and dash."""
    return {"color": model_colour(i), "dash": dash(i)} | ({} if width is None else {"width": width})


def translucent(colour: str, alpha: float = 0.18) -> str:
    """``#rrggbb`` → ``rgba(…)``, for a band behind a line."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def add_band(figure: go.Figure, x: Sequence[Any], low: Any, high: Any, i: int, **more: Any) -> None:
    """A translucent band from ``low`` to ``high``, arrays or series, in the colour of model ``i``; no legend."""
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=translucent(model_colour(i)),
        line={"width": 0}, mode="lines", showlegend=False, hoverinfo="skip", **more,
    )  # fmt: skip


def checked_image(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """An image (h,w), (h,w,1) or (h,w,3) uint8 as (h,w) or (h,w,3); ValueError for another shape or type."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise ValueError(f"image of shape {pixels.shape} and type {pixels.dtype}; expected (h,w) or (h,w,3) uint8")
    return pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels


def image_address(pixels: npt.NDArray[np.uint8], factor: int) -> str:
    """An image (h,w) or (h,w,3) as PNG in a ``data:`` address, enlarged by a whole ``factor`` without smoothing."""
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    size = (image.width * factor, image.height * factor)
    image.resize(size, Image.Resampling.NEAREST).save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def new_figure(template: str | None, x: str, y: str) -> go.Figure:
    """An empty figure with titled axes; without a template its words are grey, legible on light and dark."""
    axes = {"xaxis": {"title": {"text": x}, **AXIS}, "yaxis": {"title": {"text": y}, **AXIS}}
    words = {"font": {"color": GREY}} if template is None else {}
    # in one piece: Plotly takes ten times as long over the same properties in four updates
    return go.Figure(layout={"template": template or "none", **words, **LAYOUT, **axes})


def styled(figure: go.Figure) -> go.Figure:
    """``figure`` in the shared layout: transparent background, legend above, thin grid."""
    return figure.update_layout(LAYOUT).update_xaxes(AXIS).update_yaxes(AXIS)


def panels(template: str | None, rows: int, columns: int, titles: Sequence[str], **shared: bool) -> go.Figure:
    """A grid of titled panels in the shared layout.

    Args:
        shared: ``shared_xaxes`` and ``shared_yaxes`` of `plotly.graph_objects.Figure.set_subplots`.
    """
    figure = new_figure(template, "", "")
    gap, spread = (0.03 if shared.get("shared_yaxes") else 0.06), (0.25 / rows if rows < 3 else 0.05)
    figure.set_subplots(
        rows=rows, cols=columns, horizontal_spacing=gap, vertical_spacing=spread, subplot_titles=list(titles), **shared
    )
    figure.update_annotations(font={"size": 13})
    return styled(figure).update_layout(legend={"y": 1.04 + 0.06 / rows})


def as_text(name: object) -> str:
    """A name as Plotly shows it literally: Plotly reads a little HTML in labels.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.as_text("cats & <b>dogs</b>")
        'cats &amp; &lt;b&gt;dogs&lt;/b&gt;'
    """
    return str(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unique_labels(names: Sequence[object], longest: int = LONGEST_NAME) -> list[str]:
    """Names of classes as labels that differ: long ones are abbreviated, equal ones get their number, from 1.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.unique_labels(["cat", "dog", "dog", "black-footed albatross"], longest=12)
        ['cat', 'dog (class 2)', 'dog (class 3)', 'black-foote…']
    """
    labels = [abbreviated(str(name), longest) for name in names]
    often, numbered = Counter(labels), [f"{label} (class {c})" for c, label in enumerate(labels, start=1)]
    found = [label if often[label] == 1 else other for label, other in zip(labels, numbered, strict=True)]
    return found if len({*found}) == len(found) else numbered  # a name may end in "(class 2)" itself


def given_labels(labels: Sequence[object]) -> list[str]:
    """Labels of some of the classes as Plotly shows them literally; ValueError where one is there twice."""
    if len({*labels}) < len(labels):
        raise ValueError("two classes have the same label; `dx.figures.unique_labels` of all classes tells them apart")
    return [as_text(label) for label in labels]

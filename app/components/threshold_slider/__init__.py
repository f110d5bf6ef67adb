"""The threshold slider with its numbers, curve and mosaic: a component of plain JavaScript, SVG, canvas and CSS.

In: `SliderData`, the counts of every stop of every slider, and what `supplies` handed over: the mosaic's images and
exits. While a thumb moves the browser redraws from them; nothing is sent. Out: two events, after which Python
sends the rest: ``moved`` {seq, threshold: text} when the thumb is released or the curve is clicked, and ``picked``
{exit: 1..K}, {image: row}, {region: rows} or {amount: tiles} from mosaic and map, {answer, class: 1..C} from the
confusion matrix. They go straight to the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.components import widgets
from dmpo_explore_app.components.threshold_slider import native
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.slider_data import SliderData
from dmpo_explore_app.state import filters, operating_point
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import Fragments, redraw

HERE = Path(__file__).parent
PARTS = (
    "numbers.js",
    "curve.js",
    "supply.js",
    "piles.js",
    "tiles.js",
    "lasso.js",
    "mosaic_parts.js",
    "mosaic.js",
    "map.js",
    "network.js",
    "scores.js",
    "confusion.js",
    "slider.js",
)  # one module, in this order


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


_component = st.components.v2.component(
    "dmpo_explore.threshold_slider",
    html=_read("slider.html"),
    css=_read("slider.css"),
    js="\n".join(map(_read, PARTS)),
)


def threshold_slider(
    point: OperatingPoint,
    data: SliderData,
    figures: Mapping[str, Callable[[], go.Figure]] | None = None,
    fragments: Fragments = Fragments(),  # noqa: B008 - it cannot change
) -> None:
    """The component, or Streamlit's own widgets (see `widgets.live`).

    Args:
        figures: name → chart that Streamlit draws in place of the component's.
        fragments: of the page, where the slider is not in the one that shows everything.
    """
    if widgets.live():
        moved, picked = partial(_moved, fragments), partial(_picked, fragments)
        _component(key=operating_point.SLIDER, data=data, on_moved_change=moved, on_picked_change=picked)
    else:
        native.draw(point, data, figures or {}, fragments)


def _moved(fragments: Fragments) -> None:
    moved = event(operating_point.SLIDER, "moved")
    if isinstance(moved, dict) and isinstance(threshold := moved.get("threshold"), str):
        number = moved["seq"] if isinstance(moved.get("seq"), int) else 0
        handle(moved, partial(operating_point.released, threshold, number, fragments))


def _picked(fragments: Fragments) -> None:
    picked = event(operating_point.SLIDER, "picked")
    if not isinstance(picked, dict):
        return
    if "amount" in picked:
        filters.choose_amount(picked["amount"])
    elif "answer" in picked:
        handle(picked, lambda: filters.choose_answer(picked["answer"], picked.get("class")))
    elif "region" in picked:
        handle(picked, lambda: filters.choose_region(picked["region"]))
    else:
        kind = "image" if "image" in picked else "exit"
        handle(picked, lambda: filters.toggle(f"{kind} {picked.get(kind)}"))
    redraw(fragments.filters)

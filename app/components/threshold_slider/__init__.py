"""The threshold slider with its numbers, curve and mosaic: a component of plain JavaScript, SVG, canvas and CSS.

In: `SliderData`, the counts of every stop of every slider, and what `supplies` handed over: the code, what lasts of the
data, the mosaic's images and exits. While a thumb moves the browser redraws from them; nothing is sent. Out: two
events, after which Python sends the rest: ``moved`` {seq, threshold: text} when the thumb is released or the curve is
clicked, and ``picked`` {exit: 1..K}, {image: row}, {region: rows} or {amount: tiles} from mosaic and map, {answer,
class: 1..C} from the confusion matrix; and ``missed`` where the browser lacks what counted as kept. They go straight to
the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.components import widgets
from dmpo_explore_app.components.threshold_slider import native, supplies
from dmpo_explore_app.services import mosaic_data
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.slider_data import SliderData
from dmpo_explore_app.state import filters, operating_point, sent_images
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import Fragments, redraw

_component = st.components.v2.component("dmpo_explore.threshold_slider", js=supplies.read("loader.js"))


def threshold_slider(
    point: OperatingPoint,
    data: SliderData,
    figures: Mapping[str, Callable[[], go.Figure]] | None = None,
    exits: Callable[[], mosaic_data.Exits] | None = None,
    fragments: Fragments = Fragments(),  # noqa: B008 - it cannot change
) -> None:
    """The component, on a page that has `supplies.code`; or Streamlit's own widgets (see `widgets.live`).

    Args:
        figures: name → chart that Streamlit draws in place of the component's.
        exits: makes what the mosaic is drawn from, which the browser may keep already.
        fragments: of the page, where the slider is not in the one that shows everything.
    """
    if widgets.live():
        names = [data["lasting"], *([data["exits"]] if "exits" in data else [])]
        lacking = supplies.lacking(*names)
        if data["lasting"] in lacking:
            supplies.lasting(data)
        moving = {name: value for name, value in data.items() if name != "stays"}
        moving["assumed"] = [name for name in names if name not in lacking]
        _component(
            key=operating_point.SLIDER,
            data=moving,
            on_moved_change=partial(_moved, fragments),
            on_picked_change=partial(_picked, fragments),
            on_missed_change=partial(sent_images.missed, fragments.filters),
        )
        if exits is not None and data["exits"] in lacking:
            supplies.exits(exits())
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

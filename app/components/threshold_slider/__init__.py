"""The threshold slider with its numbers, curve and mosaic: a component of plain JavaScript, SVG, canvas and CSS.

In: `SliderData`, the counts of every stop of every slider, and what `supplies` handed over: the code, what lasts of the
data, the mosaic's images and exits. While a thumb moves the browser redraws from them; nothing is sent. Out: two
events, after which Python sends the rest: ``moved`` {threshold: text} when the thumb is released or the curve is
clicked, and ``picked`` {exit: 1..K}, {image: row}, {region: rows} or {amount: tiles} from mosaic and map, {answer,
class: 1..C} from the confusion matrix, {view: tab}, {clear: true}; and ``missed`` with the keys of arrays that it
lacks. They go straight to the state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st
from dmpo_explore_app.components.threshold_slider import supplies
from dmpo_explore_app.services import mosaic_data
from dmpo_explore_app.services.slider_data import SliderData
from dmpo_explore_app.state import filters, operating_point, sent
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import Fragments, redraw

_component = st.components.v2.component("dmpo_explore.threshold_slider", js=supplies.read("loader.js"))


def threshold_slider(
    data: SliderData,
    exits: mosaic_data.Exits | None = None,
    fragments: Fragments = Fragments(),  # noqa: B008 - it cannot change
) -> None:
    """The component, on a page that has `supplies.code`. ``fragments``: of the page, where the slider is not in the one
    that shows everything."""
    keys = [data["lasting"], *([] if exits is None else [exits["key"]])]
    lacking = sent.lacking(keys)
    sent.keep(lacking)
    if data["lasting"] in lacking:
        supplies.supply("lasting", data["lasting"], data["stays"])
    moving = {name: value for name, value in data.items() if name != "stays"}
    _component(
        key=operating_point.SLIDER,
        data=moving | {"sent_before": [key for key in keys if key not in lacking], "times_missed": sent.times_missed()},
        on_moved_change=partial(_moved, fragments),
        on_picked_change=partial(_picked, fragments),
        on_missed_change=partial(_missed, fragments),
    )
    if exits is not None and exits["key"] in lacking:
        supplies.supply("exits", exits["key"], exits)


def _moved(fragments: Fragments) -> None:
    moved = event(operating_point.SLIDER, "moved")
    if isinstance(moved, dict) and isinstance(threshold := moved.get("threshold"), str):
        handle(moved, partial(operating_point.set_by_hand, threshold, fragments))


def _missed(fragments: Fragments) -> None:
    sent.missed(event(operating_point.SLIDER, "missed"), fragments.filters)


def _picked(fragments: Fragments) -> None:
    picked = event(operating_point.SLIDER, "picked")
    if not isinstance(picked, dict):
        return
    if "amount" in picked:
        filters.choose_amount(picked["amount"])
    acts: dict[str, Callable[[], None]] = {
        "view": lambda: filters.choose_view(picked["view"]),
        "clear": filters.clear,
        "answer": lambda: filters.choose_answer(picked["answer"], picked.get("class")),
        "region": lambda: filters.choose_region(picked["region"]),
        "image": lambda: filters.toggle(f"image {picked['image']}"),
        "exit": lambda: filters.toggle(f"exit {picked['exit']}"),
    }
    if act := next((act for what, act in acts.items() if what in picked), None):
        handle(picked, act)
    redraw(fragments.images if {"view", "image"} & {*picked} else fragments.filters)

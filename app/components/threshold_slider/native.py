"""The threshold slider without its component: Streamlit's own sliders, numbers and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.slider_data import SliderData
from dmpo_explore_app.state import operating_point
from dmpo_explore_app.state.redraw import Fragments

import dmpo_explore as dx

Figures = Mapping[str, Callable[[], go.Figure]]


def draw(point: OperatingPoint, data: SliderData, figures: Figures, fragments: Fragments) -> None:
    """Sliders, rule, source, numbers, charts; ``fragments`` as in `operating_point.set_by_hand`."""
    for i, (slider, place) in enumerate(zip(data["stays"]["sliders"], data["places"], strict=True)):
        key = operating_point.put_slider(i, place)
        text, places = _label_of(slider["labels"]), range(len(slider["labels"]))
        st.select_slider(slider["name"], places, format_func=text, key=key, on_change=_slid, args=(data, i, fragments))
    st.caption(data["stays"]["rule"].replace("{}", "the threshold"))
    st.caption(messages.escape_markdown(data["source"], 500))
    found = point.outcome.summary()
    with st.grid(2, min_column_width=150, gap="xsmall"):
        low, high = dx.analysis.accuracy_interval(point.outcome.correct)
        bounds = f"95%: {low:.1%} to {high:.1%} of all such images"
        shown = f"{found['accuracy']:.2%}", _points(-found["accuracy_drop"])
        st.metric("Accuracy", *shown, border=True, help=bounds)
        st.metric("Compute saved", f"{1 - found['flops_fraction']:z.1%}".replace("-", "−"), border=True)
    for name, figure in figures.items():
        widgets.chart(figure(), name, 260, f"{data['stays']['alt']}." if name == "trade-off" else name)


def _label_of(labels: Sequence[str]) -> Callable[[int], str]:
    return lambda place: labels[place] if place < len(labels) else str(place)


def _slid(data: SliderData, number: int, fragments: Fragments) -> None:
    places = list(data["places"])
    places[number] = operating_point.slider_place(number)
    stops = (slider["stops"][place] for slider, place in zip(data["stays"]["sliders"], places, strict=True))
    operating_point.set_by_hand(",".join(stops), fragments)


def _points(difference: float) -> str:
    """Against the last exit; empty where there is none to see."""
    shown = round(100 * difference, 2)
    return f"{shown:+.2f} points vs the last exit" if shown else ""

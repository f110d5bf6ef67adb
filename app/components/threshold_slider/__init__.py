"""The drag-live threshold slider with its numbers, curve and bars: a component of plain JavaScript, SVG and CSS.

In: `Cockpit`, what every stop of every slider would do, as counts. While a thumb moves the browser redraws from it;
nothing is sent. Out: two events, after which the page asks Python for the rest: ``moved`` {seq, threshold: text} when
the thumb is let go or the curve is clicked, ``picked`` {exit: 1..K} when a bar is clicked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import streamlit as st

HERE = Path(__file__).parent
PARTS = ("numbers.js", "curve.js", "bars.js", "slider.js")  # one module, in this order

Row = list[int]  # right and wrong at exit 1, right and wrong at exit 2, …


class Line(TypedDict):
    """What a single threshold would do at every stop. ``some``: of the chosen class only, if one is chosen."""

    stops: list[str]
    counts: list[Row]
    some: list[Row] | None


class Dial(Line):
    """A slider: its name, a text for every stop and for both ends, and where it stands."""

    name: str
    labels: list[str]
    ends: tuple[str, str]
    place: int


class Curve(TypedDict):
    """A run's accuracy over compute; a single point is a model without exits."""

    name: str
    x: list[float]
    y: list[float]
    colour: str
    dash: str


class Cockpit(TypedDict):
    """Everything that is drawn.

    ``seq``: number of the last ``moved`` that Python has seen. ``line``: the single threshold, which the curve moves.
    ``exit``, ``marked``: the chosen bar and that of the chosen image, from 1, or 0. ``source``: where the thresholds
    come from. ``compact``: the slider and its numbers only, no hint, no curve, no bars.
    """

    seq: int
    threshold: str
    dials: list[Dial]
    line: Line
    curves: list[Curve]
    bound: Curve | None
    blocks: list[int]
    costs: list[float]
    full: dict[str, float]
    exit: int
    marked: int
    rule: str
    ends: tuple[str, str]
    title: str
    axis: str
    alt: str
    source: str
    compact: NotRequired[bool]


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


_component = st.components.v2.component(
    "dmpo_explore.threshold_slider",
    html=_read("slider.html"),
    css=_read("slider.css"),
    js="\n".join(map(_read, PARTS)),
)


def threshold_slider(cockpit: Cockpit, key: str, on_moved: Callable[[], None], on_picked: Callable[[], None]) -> Any:
    """Mount it; what happened is in ``st.session_state[key]`` when the callbacks run."""
    return _component(key=key, data=cockpit, on_moved_change=on_moved, on_picked_change=on_picked)

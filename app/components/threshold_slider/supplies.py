"""Hands the browser what stays while the slider moves: components that draw nothing.

In: the slider's code, `slider_data.Lasting`, `mosaic_data.Pictures` and `Exits`, the number of a drawing. Code and
pictures stand outside of the fragment that a release draws again; the others are left out of it where the browser
keeps them (`state.sent_images`). Data are handed over as bytes, the key and then JSON, made once: Streamlit would
write the JSON of a dictionary again at every drawing, and the browser would read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from dmpo_explore_app.services import mosaic_data, slider_data
from dmpo_explore_app.state import events, sent_images

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
HIDDEN = "hidden"  # beginning of the keys of what style.css gives no room


def read(name: str) -> str:
    """A file of this folder."""
    return (HERE / name).read_text(encoding="utf-8")


def _code() -> str:
    """The slider's module, with its HTML and CSS as texts."""
    texts = {"HTML": read("slider.html"), "CSS": read("slider.css")}
    constants = [f"const {name} = {json.dumps(text)};" for name, text in texts.items()]
    shared = 'const slider = (globalThis[Symbol.for("dmpo_explore.slider")] ??= { waiting: new Map() });'
    return "\n".join([*constants, shared, *map(read, PARTS)])


RECEIVE = "export default function ({ data }) { supply(data); }"
_code_component = st.components.v2.component("dmpo_explore.slider_code", js=_code())
_component = st.components.v2.component("dmpo_explore.supplies", js=f"{read('supply.js')}\n{RECEIVE}")
_drawn = st.components.v2.component("dmpo_explore.drawn", js=read("drawing.js"))


def code() -> None:
    """The slider's code, once on a page and outside of the fragment that a release draws again."""
    with st.container(key=f"{HIDDEN}_code"):
        _code_component(key="slider_code")


def lacking(*keys: str) -> list[str]:
    """The keys of what the browser does not keep yet; it is drawn with the page's present drawing."""
    found = sent_images.lacking(keys)
    sent_images.sent(events.number(), found)
    return found


def lasting(data: slider_data.SliderData) -> None:
    """What the slider draws wherever it stands."""
    with st.container(key=f"{HIDDEN}_lasting"):
        _component(key="supply_lasting", data=message(data["lasting"], data["stays"]))


def pictures(arrays: mosaic_data.Pictures) -> None:
    """Tiles and answers; outside of the fragment that a release draws again."""
    with st.container(key=f"{HIDDEN}_pictures"):
        _component(key="supply_pictures", data=message(arrays["key"], arrays))


def exits(arrays: mosaic_data.Exits) -> None:
    """Where every image exits at the stops that there are now."""
    with st.container(key=f"{HIDDEN}_exits"):
        _component(key="supply_exits", data=message(arrays["key"], arrays))


def drawn(drawing: int) -> None:
    """At the end of a page: the number of its drawing, which the browser has made when this arrives; its events will
    carry it."""
    with st.container(key=f"{HIDDEN}_drawn"):
        _drawn(key="supply_drawing", data={"drawing": drawing})


@st.cache_resource(max_entries=32, show_spinner=False)
def message(key: str, _arrays: Mapping[str, Any]) -> bytes:
    """What the browser gets: the key of 16 characters, then the arrays as JSON."""
    return (key + json.dumps(_arrays)).encode()

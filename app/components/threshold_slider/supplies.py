"""Hands the browser what stays while the slider moves: components that draw nothing. Arrays are bytes, the key and then
JSON, made once: Streamlit would write a dictionary's JSON at every drawing, and the browser would read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent
_NAMES = "numbers curve supply piles tiles lasso mosaic_parts flock mosaic map scores confusion drawer tabs sweep"
PARTS = [f"{name}.js" for name in (*_NAMES.split(), "slider")]  # one module, in this order
HIDDEN = "hidden"  # beginning of the keys of what style.css gives no room


def read(name: str) -> str:
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
_answered = st.components.v2.component("dmpo_explore.answered", js=read("answered.js"))


def code() -> None:
    """The slider's code, once on a page and outside of the fragment that a release draws again."""
    _code_component(key=f"{HIDDEN}_code")


def supply(name: str, key: str, arrays: Mapping[str, Any]) -> None:
    """Hand over arrays by their key; ``name``: what they are, one of each on a page."""
    _component(key=f"{HIDDEN}_{name}", data=message(key, arrays))


def answered(event: int) -> None:
    """At the end of a page: the number of the last event that was handled, whose answer is drawn when this arrives."""
    _answered(key=f"{HIDDEN}_answered", data={"event": event})


@st.cache_resource(max_entries=32, show_spinner=False)
def message(key: str, _arrays: Mapping[str, Any]) -> bytes:
    """What the browser gets: the key of 16 characters, then the arrays as JSON."""
    return (key + json.dumps(_arrays)).encode()

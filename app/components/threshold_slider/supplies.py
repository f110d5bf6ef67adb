"""Hands the browser arrays that stay while the slider moves: a component that draws nothing.

In: `mosaic.Pictures`, `mosaic.Exits`, the number of a drawing. Streamlit sends an element that did not change as a
reference to the earlier one. Arrays are handed over as bytes, the key and then JSON, made once: Streamlit would write
the JSON of a dictionary again at every release, and the browser would read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from dmpo_explore_app.services import mosaic

HERE = Path(__file__).parent
RECEIVE = "export default function ({ data }) { supply(data); }"

_component = st.components.v2.component(
    "dmpo_explore.supplies", js=f"{(HERE / 'supply.js').read_text(encoding='utf-8')}\n{RECEIVE}"
)


def supplies(pictures: mosaic.Pictures, exits: mosaic.Exits) -> None:
    """Each an element of its own, as one changes with the run, the other with the policy too."""
    with st.container(key="supplies"):
        _component(key="supply_pictures", data=message(pictures["key"], pictures))
        _component(key="supply_exits", data=message(exits["key"], exits))


def drawn(drawing: int) -> None:
    """At the end of a page: the number of its drawing, which the browser has made when this arrives; its events will
    carry it."""
    with st.container(key="drawn"):
        _component(key="supply_drawing", data={"drawing": drawing})


@st.cache_resource(max_entries=24, show_spinner=False)
def message(key: str, _arrays: Mapping[str, Any]) -> bytes:
    """What the browser gets: the key of 16 characters, then the arrays as JSON."""
    return (key + json.dumps(_arrays)).encode()

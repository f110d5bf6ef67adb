"""Hands the browser arrays that stay while the slider moves: a component that draws nothing.

In: `mosaic.Pictures`, `mosaic.Exits`, the number of a drawing. Streamlit sends an element that did not change as a
reference to the earlier one.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from dmpo_explore_app.services import mosaic

HERE = Path(__file__).parent
RECEIVE = "export default function ({ data }) { supply(data); }"

_component = st.components.v2.component(
    "dmpo_explore.supplies", js=f"{(HERE / 'supply.js').read_text(encoding='utf-8')}\n{RECEIVE}"
)


def supplies(pictures: mosaic.Pictures, exits: mosaic.Exits, drawing: int) -> None:
    """At the end of a page: each an element of its own, as one changes with the run, the other with the policy too.

    Args:
        drawing: number of the page's drawing, which the browser has made when this arrives; its events will carry it.
    """
    with st.container(key="supplies"):
        _component(key="supply_pictures", data=pictures)
        _component(key="supply_exits", data=exits)
        _component(key="supply_drawing", data={"drawing": drawing})

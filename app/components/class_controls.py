"""Which of many classes a page shows: a search, an order, and both ends of it or all."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from dmpo_explore_app.services import class_rows


def draw(row: str, keys: tuple[str, str, str], orders: Mapping[str, str], *, searching: bool) -> None:
    """A search, an order of ``orders`` and a view; keys of their row and of each. What is found is shown whole."""
    find, order, view = keys
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key=row):
        st.text_input(
            "Find classes",
            key=find,
            placeholder="part of a name",
            max_chars=class_rows.LONGEST,
            width=160,
            persist_state="session",
        )
        st.selectbox("Order of classes", list(orders), key=order, width=160, persist_state="session")
        st.segmented_control(
            "Show",
            list(class_rows.VIEWS),
            format_func=class_rows.VIEWS.__getitem__,
            key=view,
            required=True,
            label_visibility="collapsed",
            disabled=searching,
            persist_state="session",
        )

"""Writing to ``st.session_state`` while a page is drawn."""

from __future__ import annotations

import streamlit as st


def put(**values: object) -> None:
    """Store values that are not there yet. Streamlit refuses any other write once the key's widget is drawn."""
    for key, value in values.items():
        if key not in st.session_state or st.session_state[key] != value:
            st.session_state[key] = value

"""Events of the app's own components, as their callbacks read them."""

from __future__ import annotations

import streamlit as st


def event(key: str, name: str) -> object:
    """The value of the event ``name`` of the component ``key`` inside its callback; None if it was another event."""
    return getattr(st.session_state.get(key), name, None)

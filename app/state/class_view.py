"""Which of many classes Explore's heat map shows, as its widgets and the address set it; pages of classes."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.services.class_rows import LONGEST, ORDERS, VIEWS, ClassView
from dmpo_explore_app.state import choices

FIND, ORDER, VIEW = KEYS = ("find", "order", "rows")  # of the address and of the state


def validate() -> ClassView:
    state = st.session_state
    state[FIND] = str(state.get(FIND) or "")[:LONGEST]
    for key, options in ((ORDER, ORDERS), (VIEW, VIEWS)):
        choices.validate(key, list(options), next(iter(options)), key)
    return ClassView(state[FIND], state[ORDER], state[VIEW])


def address() -> dict[str, str]:
    chosen = ((key, st.session_state.get(key), default) for key, default in zip(KEYS, ClassView(), strict=True))
    return {key: value for key, value, default in chosen if value not in (None, default)}


def pager_key(view: ClassView, pages: int) -> str:
    """Key of the pagination widget: other classes begin at their first page."""
    return f"classes page {view} {pages}"


def page(view: ClassView, pages: int) -> int:
    """The page on screen, from 0."""
    return min(int(st.session_state.get(pager_key(view, pages), 1)), pages) - 1

"""Events of the app's own components, as their callbacks read them; those that come before an answer lose nothing.

A browser that sends an event also sends what its widgets hold. If it has not drawn the answer to the event before,
those values are old: they would undo that choice. So every event carries the number of the drawing that it was made
on. Where that drawing is older than the last choice, the choices are put back to what they were after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from dmpo_explore_app.state import filters, sent_images, targets

CHOICES = (*filters.KEYS, filters.REGION, targets.THRESHOLD, targets.KIND, *targets.TARGETS)  # what events change
_DRAWN = "_drawings"  # how often the page was drawn
_AFTER = "_choices_after_event"  # (drawings until the last event, choices after it)
_PENDING = "_choices_to_be_kept"  # an event was handled, and nothing has been drawn since
_COUNTS = "_page_counts_drawings"  # where it does not, nothing is put back


def event(key: str, name: str) -> object:
    """The value of the event ``name`` of the component ``key`` inside its callback; None if it was another event."""
    return getattr(st.session_state.get(key), name, None)


def handle(given: dict[Any, Any], act: Callable[[], None]) -> None:
    """Let ``act`` change the choices for the event ``given``, whose ``of`` is the number of its drawing."""
    state = st.session_state
    drawings, choices = state.get(_AFTER, (-1, {}))
    if isinstance(of := given.get("of"), int):
        sent_images.made(of)
        if of <= drawings:
            state.update(choices)
    try:
        act()
    finally:  # it may start a rerun
        if state.get(_COUNTS):
            state[_AFTER] = (state.get(_DRAWN, 0), {key: state[key] for key in CHOICES if key in state})
            state[_PENDING] = True


def not_counted() -> None:
    """A page begins that counts no drawings: what was chosen before its events is never put back."""
    st.session_state[_COUNTS] = False
    for key in (_AFTER, _PENDING):
        st.session_state.pop(key, None)


def before_drawing() -> None:
    """Put the choices back to what the last event made of them, whatever old values came with it."""
    state = st.session_state
    if state.pop(_PENDING, False):
        state.update(state[_AFTER][1])


def drawing() -> None:
    """A drawing begins."""
    before_drawing()
    st.session_state[_COUNTS] = True
    st.session_state[_DRAWN] = number() + 1


def number() -> int:
    """The number of the drawing that began last."""
    return int(st.session_state.get(_DRAWN, 0))

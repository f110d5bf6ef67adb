"""Events of the app's own components, as their callbacks read them; those that come before an answer lose nothing. An
event comes with what the browser's widgets hold, which is old where it has not drawn the answer to the one before. So
events are numbered and carry the number of the last one whose answer is drawn; where others were handled since, the
choices are put back to what they were then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from dmpo_explore_app.state import filters, targets

CHOICES = (*filters.KEYS, targets.THRESHOLD, targets.KIND, *targets.TARGETS)  # what events change
_LAST = "_last_event"  # number of the last event that was handled
_AFTER = "_choices_after_event"  # choices after it
_PENDING = "_choices_to_be_kept"  # an event was handled, and nothing has been drawn since
_KEEPS = "_page_keeps_choices"  # where it does not, nothing is put back


def event(key: str, name: str) -> object:
    """The value of the event ``name`` of the component ``key`` inside its callback; None if it was another event."""
    return getattr(st.session_state.get(key), name, None)


def handle(given: dict[Any, Any], act: Callable[[], None]) -> None:
    """Let ``act`` change the choices for the event ``given``, which has its number and that of the last answer."""
    state, number, answered = st.session_state, given.get("event"), given.get("answered")
    if isinstance(answered, int) and answered < last():
        state.update(state.get(_AFTER, {}))
    if isinstance(number, int):
        state[_LAST] = max(last(), number)
    try:
        act()
    finally:  # it may start a rerun
        if state.get(_KEEPS):
            state[_AFTER] = {key: state[key] for key in CHOICES if key in state}
            state[_PENDING] = True


def keep_choices(on: bool) -> None:
    """A page begins; on one that does not tell the browser which events it has answered, nothing is put back."""
    st.session_state[_KEEPS] = on
    if not on:
        for key in (_AFTER, _PENDING):
            st.session_state.pop(key, None)


def before_drawing() -> None:
    """Put the choices back to what the last event made of them, whatever old values came with it."""
    state = st.session_state
    if state.pop(_PENDING, False):
        state.update(state[_AFTER])


def last() -> int:
    """The number of the last event that was handled."""
    return int(st.session_state.get(_LAST, 0))

"""What this session has sent to its browser, which keeps it: images by their names, arrays by their keys, each once.
What the browser lacks all the same it names in an event: a drawing may be replaced by the next before it arrives."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st
from dmpo_explore_app.state.redraw import redraw

MOST = 2000  # that count as sent; clickable.js keeps twice as many images
_SENT, _MISSED = "_sent", "_times_missed"  # names; how often the browser lacked some


def lacking(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that were not sent."""
    sent: set[str] = st.session_state.get(_SENT, set())
    return [name for name in names if name not in sent]


def keep(names: Iterable[str]) -> None:
    """These are sent."""
    sent: set[str] = st.session_state.get(_SENT, set())
    st.session_state[_SENT] = sent.union(names) if len(sent) < MOST else set(names)


def missed(names: object, fragments: tuple[str, ...]) -> None:
    """In a callback: the browser lacks these; the page's ``fragments`` are drawn again with them."""
    if isinstance(names, list):
        state = st.session_state
        state[_SENT], state[_MISSED] = set(state.get(_SENT, set())).difference(map(str, names)), times_missed() + 1
        redraw(fragments)


def times_missed() -> int:
    """How often the browser lacked something. Messages hold it: a busy browser draws the last of several alone, and one
    equal to what it has drawn already, before its supplies were replaced, would not make it ask again."""
    return int(st.session_state.get(_MISSED, 0))

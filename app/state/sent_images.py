"""Which pieces of a page the browser keeps, so that they are sent once: images with their words, arrays by their keys.

In: names of pieces, in the order of the page's drawings. Out: those that the browser lacks. Pieces count as kept when
an event names the drawing that had them as made. What a later drawing replaced before it arrived never counts. Where
the browser lacks one all the same, its event has all of them sent again.
"""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st
from dmpo_explore_app.state.redraw import redraw

MOST = 2000  # that count as kept; pieces.js keeps twice as many images
_SENT, _KEPT = "_pieces_sent", "_pieces_kept"  # (number of a drawing, names); names


def lacking(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that the browser lacks."""
    kept: set[str] = st.session_state.get(_KEPT, set())
    return [name for name in names if name not in kept]


def sent(drawing: int, names: Iterable[str]) -> None:
    """The page's drawing of that number holds these pieces."""
    number, earlier = st.session_state.get(_SENT, (None, frozenset()))
    st.session_state[_SENT] = drawing, frozenset(names) | (earlier if number == drawing else frozenset())


def made(drawing: int) -> None:
    """The browser has made the drawing of that number."""
    number, names = st.session_state.get(_SENT, (None, frozenset()))
    if number != drawing:
        return
    kept: set[str] = st.session_state.get(_KEPT, set())
    st.session_state[_KEPT] = kept | names if len(kept) < MOST else set(names)


def missed(fragments: tuple[str, ...]) -> None:
    """In a callback: the browser lacks a piece that counted as kept; the page's ``fragments`` are drawn again."""
    st.session_state.pop(_SENT, None)
    st.session_state.pop(_KEPT, None)
    redraw(fragments)

"""Which parts of a page are drawn again after an event.

In: the keys of a page's fragments. Out: reruns. Without keys Streamlit draws the fragment again that holds the widget.
"""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st


class Fragments(NamedTuple):
    """Keys of a page's fragments, by what has changed.

    ``controls``: the threshold controls (a target was cleared). ``thresholds``: only the thresholds. ``filters``: which
    images are kept. ``images``: the chosen one, or the tab.
    """

    controls: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def redraw(keys: tuple[str, ...]) -> None:
    """In a callback: draw these fragments again and no others; nothing is changed where there are none."""
    if keys:
        st.rerun(list(keys))

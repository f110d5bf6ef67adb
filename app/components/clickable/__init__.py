"""HTML whose parts can be clicked: a component around HTML that the page writes.

In: HTML in which every text is escaped and every choice is a ``<button data-pick="…">``; or images by exit, each a
piece of HTML that is sent once. Out: the event ``picked`` {what: that value, of: drawing of the page}, and ``missed``
where the browser lacks a piece. Its looks are in style.css.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st
from dmpo_explore_app.services import thumbnails
from dmpo_explore_app.state import events, sent_images
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import redraw
from streamlit.components.v2.types import ComponentRenderer

HERE = Path(__file__).parent
SAID_TWICE = re.compile(r'title="([^"]*)" (?=aria-label="\1")')  # clickable.js makes the title from the label


def _made(name: str, file: str) -> ComponentRenderer:
    return st.components.v2.component(name, js=(HERE / file).read_text(encoding="utf-8"), isolate_styles=False)


_component = _made("dmpo_explore.clickable", "clickable.js")
_pieces = _made("dmpo_explore.pieces", "pieces.js")


def clickable(body: str, key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...] = ()) -> None:
    """Show ``body``; ``on_picked`` is called with the value of what was clicked, before the page is drawn again.

    Args:
        fragments: keys of what is drawn again; by default the fragment that holds this.
    """

    lean = SAID_TWICE.sub("data-titled ", body)
    _component(key=key, data=lean, on_picked_change=partial(_picked, key, on_picked, fragments))


def clickable_pieces(
    threshold: str,
    parts: Sequence[str | list[str]],
    piece: Callable[[str], str],
    key: str,
    on_picked: Callable[[str], None],
    fragments: tuple[str, ...] = (),
) -> None:
    """As `clickable`, for parts one below the other: each the HTML of an element, or a list of pieces by their names.

    Args:
        threshold: what the parts are of. piece: name → its HTML, for those that the browser lacks. An image that could
            not be read does not count as kept: it may be there next time.
    """
    names = [name for part in parts if not isinstance(part, str) for name in part]
    lacking = {name: piece(name) for name in sent_images.lacking(names)}
    sent_images.sent(events.number(), [name for name, html in lacking.items() if thumbnails.not_read() not in html])
    data = {"threshold": threshold, "parts": parts, "pieces": lacking}
    picked = partial(_picked, key, on_picked, fragments)
    _pieces(key=key, data=data, on_picked_change=picked, on_missed_change=partial(sent_images.missed, fragments))


def _picked(key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...]) -> None:
    value = event(key, "picked")
    if isinstance(value, dict) and isinstance(what := value.get("what"), str):
        handle(value, lambda: on_picked(what))
        redraw(fragments)

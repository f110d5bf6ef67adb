"""HTML whose parts can be clicked: an element of ``<button data-pick="…">``, or images by exit, each sent once. Every
text in it is escaped. Events: ``picked`` {what: that value}, and ``missed`` with the images that the browser lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from dmpo_explore_app.services import thumbnails
from dmpo_explore_app.state import sent
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import redraw

HERE = Path(__file__).parent
SAID_TWICE = re.compile(r'title="([^"]*)" (?=aria-label="\1")')  # clickable.js makes the title from the label
_component = st.components.v2.component(
    "dmpo_explore.clickable", js=(HERE / "clickable.js").read_text(encoding="utf-8"), isolate_styles=False
)


def clickable(body: str, key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...] = ()) -> None:
    """Show ``body``, one element; ``on_picked`` gets the value of what was clicked, then ``fragments`` are drawn again,
    by default the one that holds this."""
    _draw({"parts": [SAID_TWICE.sub("data-titled ", body)]}, key, on_picked, fragments)


def clickable_images(
    threshold: str,
    parts: Sequence[str | list[str]],
    image: Callable[[str], str],
    key: str,
    on_picked: Callable[[str], None],
    fragments: tuple[str, ...] = (),
) -> None:
    """As `clickable`, for parts one below the other: each the HTML of an element, or a list of names of images, of
    which ``image`` makes the HTML where it was not sent. One that could not be read does not count as sent."""
    names = [name for part in parts if not isinstance(part, str) for name in part]
    lacking = {name: image(name) for name in sent.lacking(names)}
    sent.keep(name for name, html in lacking.items() if thumbnails.not_read() not in html)
    _draw(
        {"threshold": threshold, "parts": parts, "images": lacking, "missed": sent.times_missed()},
        key,
        on_picked,
        fragments,
    )


def _draw(data: dict[str, Any], key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...]) -> None:
    _component(
        key=key,
        data=data,
        on_picked_change=partial(_picked, key, on_picked, fragments),
        on_missed_change=partial(_missed, key, fragments),
    )


def _picked(key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...]) -> None:
    value = event(key, "picked")
    if isinstance(value, dict) and isinstance(what := value.get("what"), str):
        handle(value, lambda: on_picked(what))
        redraw(fragments)


def _missed(key: str, fragments: tuple[str, ...]) -> None:
    sent.missed(event(key, "missed"), fragments)

"""HTML whose parts can be clicked: a component around HTML that the page writes.

In: HTML in which every text is escaped and every choice is a ``<button data-pick="…">``. Out: the event ``picked``
{what: that value, of: drawing of the page}. Its looks are in style.css.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st
from dmpo_explore_app.state.events import event, handle
from dmpo_explore_app.state.redraw import redraw

_component = st.components.v2.component(
    "dmpo_explore.clickable",
    js=(Path(__file__).parent / "clickable.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def clickable(body: str, key: str, on_picked: Callable[[str], None], fragments: tuple[str, ...] = ()) -> None:
    """Show ``body``; ``on_picked`` is called with the value of what was clicked, before the page is drawn again.

    Args:
        fragments: keys of what is drawn again; by default the fragment that holds this.
    """

    def picked() -> None:
        value = event(key, "picked")
        if isinstance(value, dict) and isinstance(what := value.get("what"), str):
            handle(value, lambda: on_picked(what))
            redraw(fragments)

    _component(key=key, data=body, on_picked_change=picked)

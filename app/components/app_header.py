"""What is the same on every page, and needs no long imports: brand, runs and question stand there before the page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from dmpo_explore_app.state import panels
from streamlit.elements.lib.mutable_popover_container import PopoverContainer

NAME = "DMPO explore"
QUESTIONS = {  # title of a page → what it answers
    "Explore": "When may the model stop?",
    "Decide": "Which run to take?",
    "One image": "Why does it exit here?",
    "Live": "How much time do early exits save here?",
    "Training": "How does it learn?",
    "Bring your own": "What can early exits do for yours?",
}
_one_entry = st.components.v2.component(
    "dmpo_explore.one_entry", js=Path(__file__).with_name("one_entry.js").read_text(encoding="utf-8")
)


def draw(title: str) -> PopoverContainer:
    """Brand, runs and question of the page with this title; the popover of runs, to be filled where it is open."""
    _one_entry(key=panels.ENTRY)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="app_header"):
        st.html(f'<b class="dx-brand">{NAME}</b>', width="content")
        runs = st.popover("Runs", icon=":material/deployed_code:", key=panels.RUNS, on_change="rerun")
    row = st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="title_row")
    row.title(QUESTIONS[title], anchor=False)
    return runs


def lead_to(page: st.Page, **more: str) -> None:
    """From a former address of a page to the present one, with what the link says and ``more``."""
    st.switch_page(page, query_params=st.query_params.to_dict() | more)

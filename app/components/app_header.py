"""What is the same on every page: the brand beside the navigation, and the list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.services import class_rows, run_facts
from dmpo_explore_app.state import choices, panels

NAME = "DMPO explore"
EXPLORE = "views/explore.py"
LISTED = 20  # runs in the list; where there are more, those whose names contain a text
_one_entry = st.components.v2.component(
    "dmpo_explore.one_entry", js=Path(__file__).with_name("one_entry.js").read_text(encoding="utf-8")
)


def draw(names: Sequence[str], of_a_run: bool = True) -> None:
    """Brand and runs; ``of_a_run``: whether the page shows one run, else a run is opened in Explore."""
    _one_entry(key=panels.ENTRY)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="app_header"):
        st.html(f'<b class="dx-brand">{NAME}</b>', width="content")
        if names:
            _runs(names, of_a_run)


def lead_to(page: st.Page, **more: str) -> None:
    """From a former address of a page to the present one, with what the link says and ``more``."""
    st.switch_page(page, query_params=st.query_params.to_dict() | more)


def _runs(names: Sequence[str], of_a_run: bool) -> None:
    """A popover with all runs: what each is, its two numbers, and a button that shows it."""
    with st.popover("Runs", icon=":material/deployed_code:", key=panels.RUNS, on_change="rerun") as box:
        if not box.open:
            return
        st.caption(
            "A run is a trained model and the outputs of its exits. Numbers: accuracy and compute on test, with the "
            "cheapest threshold that is within one point of the best exit on calibration."
        )
        for name in _listed(names):
            _run(run_facts.summary(name), of_a_run)


def _listed(names: Sequence[str]) -> Sequence[str]:
    """The runs of the list: all, or the first of those that are found by name where there are many."""
    if len(names) <= LISTED:
        return names
    text = st.text_input("Find runs", key=panels.FIND_RUNS, placeholder="part of a name") or ""
    found = [names[i] for i in class_rows.found(tuple(names), text)]
    if not found:
        st.caption(f"No run’s name contains “{messages.escape_markdown(text[:60])}”.")
    elif len(found) > LISTED:
        st.caption(f"The first {LISTED} of {len(found):,} runs by name.")
    return found[:LISTED]


def _run(run: run_facts.RunSummary, of_a_run: bool) -> None:
    name, text = messages.escape_markdown(run.name), messages.escape_markdown(run.text)
    result = messages.escape_markdown(run.problem) or f"**{run.accuracy:.2%}** accuracy · **{run.compute:.1%}** compute"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{name}** · {text}  \n{result}" if text else f"**{name}** · {result}", width="stretch")
        if text:
            label, key = "Show" if of_a_run else "Explore", panels.key(panels.RUNS, run.name)
            if st.button(label, key=key, on_click=choices.choose_run, args=(run.name,)) and not of_a_run:
                st.switch_page(EXPLORE)

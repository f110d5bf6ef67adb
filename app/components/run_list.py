"""The list of runs in the header: what each is, its two numbers, and a button that shows it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import class_rows, run_facts
from dmpo_explore_app.state import choices, panels

import dmpo_explore as dx

EXPLORE = "views/explore.py"
LISTED = 20  # runs in the list; where there are more, those whose names contain a text


def draw(of_a_run: bool) -> None:
    """Draw it; ``of_a_run``: whether the page shows one run, else it is opened in Explore."""
    st.caption(
        "A run is a trained model and the outputs of its exits. Numbers: accuracy and compute on test, with the "
        "cheapest threshold that is within one point of the best exit on calibration."
    )
    for name in _listed(dx.list_runs()):
        _run(run_facts.summary(name), of_a_run)


def _listed(names: Sequence[str]) -> Sequence[str]:
    """The runs of the list: all, or the first of those that are found by name where there are many."""
    if len(names) <= LISTED:
        return names
    text = st.text_input("Find runs", key=panels.FIND_RUNS, placeholder="part of a name") or ""
    found = [names[i] for i in class_rows.found(tuple(names), text)]
    if not found:
        st.caption(f"No run’s name contains “{escape_markdown(text[:60])}”.")
    elif len(found) > LISTED:
        st.caption(f"The first {LISTED} of {len(found):,} runs by name.")
    return found[:LISTED]


def _run(run: run_facts.RunSummary, of_a_run: bool) -> None:
    name, text = escape_markdown(run.name), escape_markdown(run.text)
    result = escape_markdown(run.problem) or f"**{run.accuracy:.2%}** accuracy · **{run.compute:.1%}** compute"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{name}** · {text}  \n{result}" if text else f"**{name}** · {result}", width="stretch")
        if text:
            label, key = "Show" if of_a_run else "Explore", panels.key(panels.RUNS, run.name)
            if st.button(label, key=key, on_click=choices.choose_run, args=(run.name,)) and not of_a_run:
                st.switch_page(EXPLORE)

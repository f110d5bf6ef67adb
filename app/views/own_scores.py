"""Your own scores: scores of any model, from a file or a record folder, opened in Explore.

In: uploads, and paths that the reader types; they never come from the address. Out: a run of this session, without a
model. Nothing is written, no model runs.
"""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import folder_panels, scores_form, widgets
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import own_scores, url

import dmpo_explore as dx

EXPLORE = "views/explore.py"


def page() -> None:
    """Title and form; then what was read, and the button that opens it; how to write a file."""
    widgets.title_row("Open the scores of your own model", "small")
    st.markdown(
        "You have an early-exit model that was not trained here. Bring its outputs at every exit: *Explore* then shows "
        "them as it shows a run. An upload stays in this session, and nothing is changed."
    )
    url.follow(())  # nothing of this page is in the address
    current()
    title, scores = scores_form.choose()
    if scores:
        with messages.problems("These scores cannot be opened."):
            ready(title, scores)
    folder_panels.recipe(opened=not scores)


def current() -> None:
    """The run that this session has open."""
    run = own_scores.opened()
    if run is None:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="own_current"):
        st.markdown(f"Open now: **{messages.escape_markdown(run.name)}**")
        if st.button("Show in Explore", key=own_scores.SHOW, on_click=own_scores.choose, icon=":material/tune:"):
            st.switch_page(EXPLORE)
        st.button("Close", key=own_scores.CLOSE, on_click=own_scores.close, icon=":material/close:")


def ready(title: str, scores: scores_form.Scores) -> None:
    """What was read, where images lie, and the button; raises as `dx.data.image_list`."""
    splits = list(scores)
    records = [own_runs.opened(title, scores, None).record(split) for split in splits]
    own_runs.check_together(records)
    folder_panels.summary(records[0], records[1] if len(records) > 1 else None)
    place = own_scores.image_place()
    if st.button("Open in Explore", key=own_scores.OPEN, type="primary", icon=":material/tune:"):
        files = None
        if place:
            with st.spinner("Looking for the images …"):
                files = dx.data.image_list(scores_form.image_place(place), records[0].n_images)
        own_scores.open_run(own_runs.opened(title, scores, files))
        st.switch_page(EXPLORE)


page()

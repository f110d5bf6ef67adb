"""Your own scores: scores of any model, from a file or a record folder, opened in Explore, Decide or One image.

In: uploads, and paths that the reader types; they never come from the address. Out: a run of this session, without a
model. Nothing is written, no model runs.
"""

from __future__ import annotations

from typing import Literal

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import folder_panels, scores_form, widgets
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import opened_scores, url

import dmpo_explore as dx

PAGES = {  # that need no model: view → name, icon
    "views/explore.py": ("Explore", ":material/tune:"),
    "views/decide.py": ("Decide", ":material/balance:"),
    "views/image.py": ("One image", ":material/image_search:"),
}


def page() -> None:
    """Title; how to write a file; beside it the form, what was read, and the buttons that open it."""
    widgets.title_row("Open the scores of your own model", "small")
    st.markdown(
        "You have an early-exit model that was not trained here. Bring its outputs at every exit: *Explore*, *Decide* "
        "and *One image* then show them as they show a run. An upload stays in this session, and nothing is changed."
    )
    url.follow(())  # nothing of this page is in the address
    current()
    with st.container(key="halves"):
        left, right = st.columns(2, gap="medium")
    with left:
        st.header("1. Write a file", anchor=False)
        folder_panels.recipe()
    with right:
        st.header("2. Open it", anchor=False)
        title, scores = scores_form.choose()
        if scores:
            with messages.problems("These scores cannot be opened."):
                ready(title, scores)


def current() -> None:
    """The runs that this session has open."""
    for i, run in enumerate(opened_scores.opened()):
        with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"own_current_{i}"):
            st.markdown(f"Open now: **{messages.escape_markdown(run.name)}**", width="content")
            for page, (name, icon) in PAGES.items():
                key = opened_scores.show_key(page, run)
                if st.button(f"Show in {name}", key=key, on_click=opened_scores.choose, args=(run,), icon=icon):
                    st.switch_page(page)
            key = opened_scores.close_key(run)
            st.button("Close", key=key, on_click=opened_scores.close, args=(run,), icon=":material/close:")


def ready(title: str, scores: scores_form.Scores) -> None:
    """What was read, where images lie, and a button for every page; raises as `dx.runs.image_list`."""
    splits = list(scores)
    records = [own_runs.opened(title, scores, None).record(split) for split in splits]
    own_runs.check_together(records)
    folder_panels.summary(records[0], records[1] if len(records) > 1 else None)
    place = opened_scores.image_place()
    pressed = None
    with st.container(horizontal=True, gap="small"):
        for page, (name, icon) in PAGES.items():
            kind: Literal["primary", "secondary"] = "primary" if page == next(iter(PAGES)) else "secondary"
            if st.button(f"Open in {name}", key=opened_scores.open_key(page), type=kind, icon=icon):
                pressed = page
    if pressed is not None:
        files = None
        if place:
            with st.spinner("Looking for the images …"):
                files = dx.runs.image_list(scores_form.image_place(place), records[0].n_images)
        opened_scores.open_run(title, scores, files)
        st.switch_page(pressed)
    st.caption(
        "*Live* and the maps of *One image* run a model, and *Training* shows how it was trained: scores have neither."
    )


page()

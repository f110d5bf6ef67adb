"""Data: what lies in a data set or a folder of images, what is wrong with it, and what a training does with it.

In: a known data set, or on the app's own machine a folder or table that the reader types; it never comes from the
address. Out: `dx.data.check_data`. Every image is read once, nothing is changed, no model runs.
"""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import data_panels, fetch_offer, progress, widgets
from dmpo_explore_app.services import data_check, downloads
from dmpo_explore_app.state import data_choices as state
from dmpo_explore_app.state import url

import dmpo_explore as dx


def page() -> None:
    """Title and choice; then the check."""
    widgets.title_row("What is in the data?")
    st.markdown("Counts, sizes and problems, before a training starts. Every image is read, and nothing is changed.")
    url.follow(state.KEYS)
    chosen = choose()
    with messages.problems("These images cannot be checked."):
        if chosen == state.FOLDER and not state.typed():
            st.info(
                "Type where your images lie: a folder with a folder per class, one with train/ and test/, or a table.",
                icon=":material/folder_open:",
            )
            return
        config = state.config()
        if (wanted := downloads.missing_data(config)) is not None:
            fetch_offer.offer(wanted, "They are checked as soon as they are here.")
        else:
            with progress.waiting_notice(), progress.progress_bar("Checking images") as shown:
                found = data_check.check(config, shown)
            report(found)
    url.write(**state.address())


def choose() -> str:
    """The data set, or a folder of one's own."""
    chosen = state.validate(access.is_private())
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="choices"):
        st.selectbox("Data", state.offered(access.is_private()), key=state.DATA, width=240, persist_state="session")
        if chosen == state.FOLDER:
            st.text_input(
                "Folder or table of images",
                key=state.PLACE,
                placeholder="/home/me/photos",
                width=420,
                persist_state="session",
                help="One subfolder per class, or train/ and test/ with one per class; or a table (.csv, .parquet) "
                "with columns path, label and perhaps split and group; or timm's hfds/NAME, wds/FOLDER, torch/NAME. "
                "Press Enter.",
            )
        st.checkbox(
            "Calibration split even if small",
            key=state.CALIBRATION,
            persist_state="session",
        )
    if not access.is_private():
        st.caption("From here the app checks known data sets only; folders are opened on its own machine.")
    return chosen


def report(found: dx.data.DataCheck) -> None:
    """Findings, numbers, counts and what a training does beside a contact sheet."""
    if found.n_images:
        data_panels.numbers(found)
    data_panels.verdict(found)
    if not found.n_images:
        return
    view = data_panels.choose_classes(found)
    rows = data_check.rows(found, view)
    with st.container(key="halves"):
        left, right = st.columns([6, 6], gap="medium")
    with left:
        st.header("Images by class", anchor=False)
        data_panels.counts(found, rows)
        st.header("What a training does", anchor=False)
        data_panels.plan(found)
    with right:
        st.header("A few of every class", anchor=False)
        data_panels.contact_sheet(found, rows)
    if (weights := downloads.missing_weights(dx.ModelConfig())) is not None:
        fetch_offer.offer(weights, "The check needs no model. A training with the usual settings starts from them.")


page()

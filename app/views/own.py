"""Bring your own: images, which are checked before a training, or the scores of a model that was trained elsewhere.
None of the reader's places comes from the address, and nothing of the reader's is changed."""

from __future__ import annotations

from typing import Literal

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import data_panels, fetch_offer, folder_panels, progress, scores_form
from dmpo_explore_app.services import class_rows, data_check, downloads, own_runs
from dmpo_explore_app.state import class_view, data_choices, notes, opened_scores, panels, url

import dmpo_explore as dx

PAGES = {  # that need no model: view → name, icon
    "views/explore.py": ("Explore", ":material/tune:"),
    "views/decide.py": ("Decide", ":material/balance:"),
    "views/image.py": ("One image", ":material/image_search:"),
}


def page() -> None:
    url.follow(data_choices.KEYS)
    way = data_choices.validate_way()
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="choices"):
        st.markdown("I bring", width="content")
        st.segmented_control(
            "What is brought", list(data_choices.WAYS), format_func=data_choices.WAYS.__getitem__,
            key=data_choices.WHAT, required=True, label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
    current()
    if way == "images":
        with messages.problems("These images cannot be checked."):
            images()
    else:
        scores()
    url.write(**data_choices.address())


def images() -> None:
    chosen = choose()
    if chosen == data_choices.FOLDER and not data_choices.typed():
        st.info(
            "Type where your images lie: a folder with a folder per class, one with train/ and test/, or a table; or "
            "drop the folder as a ZIP file.",
            icon=":material/folder_open:",
        )
        return
    config = data_choices.config()
    if (wanted := downloads.missing_images(config.name, "train", config.root)) is not None:
        fetch_offer.offer(wanted, "They are checked as soon as they are here.")
        return
    with progress.waiting_notice(), progress.progress_bar("Checking images") as shown:
        found = data_check.check(config, shown)
    report(found)


def choose() -> str:
    chosen = data_choices.validate(access.is_private())
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="filters"):
        offered = data_choices.offered(access.is_private())
        st.selectbox("Images", offered, key=data_choices.DATA, width=240, persist_state="session")
        if access.is_private() and chosen != data_choices.FOLDER:
            st.button("Use a folder or ZIP of mine", on_click=data_choices.use_folder, icon=":material/folder_open:")
        if chosen == data_choices.FOLDER:
            st.text_input(
                "Folder or table of images",
                key=data_choices.PLACE,
                placeholder="/home/me/photos",
                width=420,
                persist_state="session",
                help="One subfolder per class, or train/ and test/ with one per class; or a table (.csv, "
                ".jsonl, .parquet) with columns path, label and perhaps split and group; or timm's hfds/NAME, "
                "wds/FOLDER. Press Enter.",
            )
        st.checkbox("Calibration split even if small", key=data_choices.CALIBRATION, persist_state="session")
    if chosen == data_choices.FOLDER:
        st.file_uploader(
            "Or the folder as a ZIP file", ["zip"], key=data_choices.ZIP, on_change=data_choices.receive_zip, width=420,
        )  # fmt: skip
        if reason := notes.read(notes.ZIP):
            messages.notice(f"That ZIP file cannot be used: {messages.with_code(reason, 300)}.")
    if not access.is_private():
        st.caption("From here the app checks known data sets only; folders are opened on its own machine.")
    return chosen


def report(found: dx.data.DataCheck) -> None:
    """What stops a training and what comes next; numbers, counts and what a training does beside a contact sheet."""
    data_panels.verdict(found)
    if not found.n_images:
        return
    weights = downloads.missing_weights(dx.ModelConfig())
    if found.ready and access.is_private():
        data_panels.next_steps(found, weights=weights is None)
    data_panels.numbers(found)
    view = data_panels.choose_classes(found)
    rows = data_check.rows(found, view)
    pages = max(1, -(-len(rows) // class_rows.PAGE))
    first = class_rows.PAGE * class_view.page(view, pages)
    shown = rows[first : first + class_rows.PAGE]
    with st.container(key="halves"):
        left, right = st.columns([6, 6], gap="medium")
    with left:
        st.header("Images by class", anchor=False)
        data_panels.counts(found, rows, shown)
        st.header("What a training does", anchor=False)
        data_panels.plan(found)
    with right:
        st.header("A few of every class", anchor=False)
        data_panels.contact_sheet(found, shown)
    if pages > 1:
        st.pagination(pages, key=class_view.pager_key(view, pages))
    if weights is not None:
        fetch_offer.offer(weights, "The check needs no model; a training usually starts from these weights.")


def scores() -> None:
    with st.container(key="halves"):
        left, right = st.columns(2, gap="medium")
    with right:
        st.header("Open a file", anchor=False)
        title, found = scores_form.choose()
        if found:
            with messages.problems("These scores cannot be opened."):
                ready(title, found)
    with left:
        st.header("How to write it", anchor=False)
        folder_panels.recipe()


def current() -> None:
    for i, run in enumerate(opened_scores.opened()):
        with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"own_current_{i}"):
            st.markdown(f"Open now: **{messages.escape_markdown(run.name)}**", width="content")
            for page, (name, icon) in PAGES.items():
                key = panels.key(opened_scores.SHOW, page, run.name)
                if st.button(f"Show in {name}", key=key, on_click=opened_scores.choose, args=(run,), icon=icon):
                    st.switch_page(page)
            key = panels.key(opened_scores.CLOSE, run.name)
            st.button("Close", key=key, on_click=opened_scores.close, args=(run,), icon=":material/close:")


def ready(title: str, found: scores_form.Scores) -> None:
    """What was read, where images lie, and a button for every page; raises as `dx.runs.image_list`."""
    splits = list(found)
    records = [own_runs.opened(title, found, None).record(split) for split in splits]
    dx.runs.check_same_model(records)
    folder_panels.summary(records[0], records[1] if len(records) > 1 else None)
    place = opened_scores.image_place()
    pressed = None
    with st.container(horizontal=True, gap="small"):
        for page, (name, icon) in PAGES.items():
            kind: Literal["primary", "secondary"] = "primary" if page == next(iter(PAGES)) else "secondary"
            if st.button(f"Open in {name}", key=panels.key(opened_scores.OPEN, page), type=kind, icon=icon):
                pressed = page
    if pressed is not None:
        files = None
        if place:
            with st.spinner("Looking for the images …"):
                files = dx.runs.image_list(scores_form.image_place(place), records[0].n_images)
        opened_scores.open_run(title, found, files)
        st.switch_page(pressed)
    st.caption("*Live*, the maps of *One image* and *Training* need the model; scores open without these pages.")


page()

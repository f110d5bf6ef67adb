"""Widgets that choose the image of One image: a row of the record, a file, or a photo."""

from __future__ import annotations

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import notice, with_code
from dmpo_explore_app.services import images
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.state import image as state

import dmpo_explore as dx


def choose(run: dx.Run, split: str, record: dx.ExitRecord) -> ChosenImage | None:
    """The chosen image and the widgets that choose it; None while nothing has been uploaded."""
    chosen = state.chosen(run, split, record)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="picture"):
        st.segmented_control(
            "Image",
            state.sources(run),
            format_func=state.SOURCES.__getitem__,
            key=state.SOURCE,
            required=True,
            persist_state="session",
        )
        if chosen is not None and chosen.row is not None:
            _row_widgets(record, chosen.row)
    _upload_widgets()
    return chosen


def _row_widgets(record: dx.ExitRecord, row: int) -> None:
    last, order = record.n_images - 1, images.shuffled(record.n_images)
    other = int(order[(int(np.flatnonzero(order == row)[0]) + 1) % len(order)])
    st.number_input(
        "Row", 0, last, key=state.ROW, width=130, on_change=state.open_typed_row, help="Row of the record, from 0."
    )
    for label, icon, target in (
        ("Previous", "chevron_left", row - 1),
        ("Next", "chevron_right", row + 1),
        ("Any other", "shuffle", other),
    ):
        there = 0 <= target <= last
        st.button(
            label,
            icon=f":material/{icon}:",
            key=label,
            disabled=not there,
            on_click=state.open_row,
            args=(target,),
        )


def _upload_widgets() -> None:
    """What receives an upload, where the image is not one of the record; and why the last upload was refused."""
    source = state.source()
    if source == "file":
        formats = dx.data.SENT_FORMATS
        st.file_uploader(
            f"An image of yours: {', '.join(formats)}. It stays in this session's memory.",
            [suffix for suffixes in formats.values() for suffix in suffixes],
            key=state.FILE,
            max_upload_size=dx.data.MOST_BYTES // 2**20,
            on_change=state.receive_upload,
            args=(state.FILE,),
        )
    elif source == "camera" and state.camera_on():
        st.camera_input(
            "A photo. It stays in this session's memory.",
            key=state.PHOTO,
            on_change=state.receive_upload,
            args=(state.PHOTO,),
            width=420,
        )
    elif source == "camera":
        st.button("Turn the camera on", icon=":material/photo_camera:", on_click=state.turn_camera_on)
        st.caption("The browser requests permission first. Nothing is recorded; the button takes one photo.")
    if source != "record" and (reason := state.refusal()):
        notice(f"That image cannot be used: {with_code(reason, 300)}.")

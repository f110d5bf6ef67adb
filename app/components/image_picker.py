"""Widgets that choose the image of One image: a row of the record, a file, or a photo."""

from __future__ import annotations

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice, with_code
from dmpo_explore_app.services import images, selection
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.selection import SelectionPlace
from dmpo_explore_app.state import image_choices as state
from dmpo_explore_app.state import notes, sequence

import dmpo_explore as dx


def choose(point: OperatingPoint) -> ChosenImage | None:
    """The chosen image and the widgets that choose it; None while nothing has been uploaded."""
    run, record = point.run, point.record
    chosen, selected = state.chosen(point), ""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="picture"):
        st.segmented_control(
            "Image",
            state.sources(run),
            format_func=state.SOURCES.__getitem__,
            key=state.SOURCE,
            required=True,
            label_visibility="collapsed",
            persist_state="session",
        )
        if chosen is not None and chosen.row is not None:
            place = sequence.place(point, chosen.row)
            _row_widgets(record, chosen.row, place)
            selected = selection.sentence(place, record.meta.class_names)
    if selected:
        with st.container(horizontal=True, gap="small", vertical_alignment="center", key="selected"):
            st.markdown(escape_markdown(selected, 300), width="content")
            every, icon = sequence.EVERY, ":material/filter_alt_off:"
            st.button(every, icon=icon, key=sequence.EVERY, on_click=sequence.leave)
    _upload_widgets()
    return chosen


def _row_widgets(record: dx.ExitRecord, row: int, place: SelectionPlace) -> None:
    last, order = record.n_images - 1, images.shuffled(record.n_images)
    other = int(order[(int(np.flatnonzero(order == row)[0]) + 1) % len(order)])
    st.number_input(
        "Row", 0, last, key=state.ROW, width=130, on_change=state.open_typed_row, label_visibility="collapsed"
    )
    for label, key, target in (("Previous", "Left", place.before), ("Next", "Right", place.after)):
        st.button(
            label,
            key=label,
            disabled=target is None,
            on_click=sequence.leave_for if place.selection is None else state.open_row,
            args=(target,),
            shortcut=key,
        )
    st.button(state.OTHER, icon=":material/shuffle:", key=state.OTHER, on_click=state.open_row, args=(other,))


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
    elif source == "camera" and st.toggle(
        "Turn the camera on", key=state.CAMERA, help="One photo, when its button is pressed; nothing is recorded."
    ):
        st.camera_input(
            "A photo. It stays in this session's memory.",
            key=state.PHOTO,
            on_change=state.receive_upload,
            args=(state.PHOTO,),
            width=420,
        )
    if source != "record" and state.absent():
        notice("The image stayed in its session: a reload or a link does not bring it back. Choose it again.")
    if source != "record" and (reason := notes.read(notes.UPLOAD)):
        notice(f"That image cannot be used: {with_code(reason, 300)}.")

"""Which picture is asked about: one of the record, a file that the reader chose, or a photo.

In: a run's record, ``st.session_state`` (perhaps filled from the address). Out: a `Subject`. What readers send is
checked by `read_image` as it arrives and stays in the memory of their session: it is never written, and no link to it
leads anywhere else.
"""

from __future__ import annotations

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import notice, plain
from dmpo_explore_app.services import images
from dmpo_explore_app.services.images import Sent, Subject, sent

import dmpo_explore as dx
from dmpo_explore.data.image_files import MOST_BYTES, SENT_FORMATS

KEYS = ("image", "source")  # of the address and of the state
SOURCES = {"record": "of the record", "file": "a file of yours", "camera": "the camera"}
_SENT, _REFUSED, _CAMERA_ON = "_sent", "_refused", "_camera_on"


def choose(run: dx.Run, split: str, record: dx.ExitRecord) -> Subject | None:
    """The widgets, in the row that is open, and what they say; None while there is no picture."""
    source = _settle_source()
    row = _settle_row(record)
    st.segmented_control(
        "Picture", list(SOURCES), format_func=SOURCES.__getitem__, key="source", required=True, persist_state="session"
    )
    if source == "record":
        _turn_pages(record, row)
        return Subject(run, split, row, None)
    sent: Sent | None = st.session_state.get(_SENT)
    return None if sent is None else Subject(run, split, None, sent)


def receive() -> None:
    """Where a picture comes from, if it is not of the record; and what was wrong with the last one."""
    source = st.session_state["source"]
    if source == "file":
        kinds = ", ".join(SENT_FORMATS)
        st.file_uploader(
            f"A picture of yours: {kinds}. It stays in this session's memory.",
            [suffix for suffixes in SENT_FORMATS.values() for suffix in suffixes],
            key="file",
            max_upload_size=MOST_BYTES // 2**20,
            on_change=_arrived,
            args=("file",),
        )
    elif source == "camera" and st.session_state.get(_CAMERA_ON):
        text = "A photo. It stays in this session's memory."
        st.camera_input(text, key="photo", on_change=_arrived, args=("photo",), width=420)
    elif source == "camera":
        st.button("Turn the camera on", icon=":material/photo_camera:", on_click=_turn_on)
        st.caption("Your browser asks you first. What it sees is not recorded; a photo is taken when you press for it.")
    if source != "record" and st.session_state.get(_REFUSED):
        notice(f"That picture cannot be used: {plain(st.session_state[_REFUSED], 300)}.")


def address(subject: Subject | None) -> dict[str, str]:
    """For the page's address; a picture that was sent is not in it."""
    if subject is not None and subject.row is not None:
        return {"image": str(subject.row)}
    return {"source": str(st.session_state["source"])}


def opened(row: int) -> None:
    """Go to another image of the record."""
    st.session_state.update({"image": row, "source": "record"})


def name_of(subject: Subject, record: dx.ExitRecord) -> str:
    """Its name as text."""
    if subject.sent is not None:
        return subject.sent.name
    return f"{subject.split} image {images.number_of(record, subject.row or 0)}"


# -- of the record --


def _settle_source() -> str:
    asked = st.session_state.get("source")
    if asked not in SOURCES:
        if asked is not None:
            notice(f"A picture comes from one of {', '.join(SOURCES)}, not from {plain(repr(asked), 60)}.")
        asked = "record"
    st.session_state["source"] = asked
    return str(asked)


def _settle_row(record: dx.ExitRecord) -> int:
    """The chosen row; the first where none is chosen, or where there is none of that number, which is said."""
    asked = st.session_state.get("image")
    try:
        row = 0 if asked is None else int(asked)
    except (TypeError, ValueError):
        row = -1
    if not 0 <= row < record.n_images:
        notice(f"There is no image {plain(repr(asked), 60)} here: they go from 0 to {record.n_images - 1}. Showing 0.")
        st.session_state["image"] = None
        row = 0
    st.session_state["row"] = row
    return row


def _turn_pages(record: dx.ExitRecord, row: int) -> None:
    last, order = record.n_images - 1, images.shuffled(record.n_images)
    other = int(order[(int(np.flatnonzero(order == row)[0]) + 1) % len(order)])
    st.number_input("Image", 0, last, key="row", width=130, on_change=_typed, help="Its row in the record, from 0.")
    for label, icon, target in (
        ("Previous", "chevron_left", row - 1),
        ("Next", "chevron_right", row + 1),
        ("Any other", "shuffle", other),
    ):
        there = 0 <= target <= last
        st.button(label, icon=f":material/{icon}:", key=label, disabled=not there, on_click=opened, args=(target,))


def _typed() -> None:
    opened(st.session_state["row"])


# -- sent --


def _turn_on() -> None:
    st.session_state[_CAMERA_ON] = True


def _arrived(key: str) -> None:
    """A file or photo came, or was taken away."""
    state, file = st.session_state, st.session_state.get(key)
    state[_SENT], state[_REFUSED] = None, ""
    if file is None:
        return
    try:
        state[_SENT] = sent(file.name, file.getvalue())
    except ValueError as error:
        state[_REFUSED] = str(error)

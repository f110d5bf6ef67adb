"""The image of One image: a row of the record, or an upload, which stays in the session's memory."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.services.images import ChosenImage, UploadedImage, read_upload
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices, notes

import dmpo_explore as dx

IMAGE, SOURCE = "image", "source"  # of the address and of the state
ADDRESS = (IMAGE, SOURCE)
ROW, FILE, PHOTO, QUERY, TOKENS = "row", "file", "photo", "query the model", "show tokens"  # of widgets
EDIT, AMOUNT, CAMERA = "edit", "edit amount", "camera on"
OTHER = "Any other"  # a button's key and label
SOURCES = {"record": "of the record", "file": "a file of yours", "camera": "the camera"}
_UPLOAD, _UPLOAD_FROM = "_upload", "_upload_from"  # what was uploaded, and the widget that received it
_ABSENT = "_upload_absent"  # an address was followed that says that there was one


def sources(run: dx.Run) -> list[str]:
    """Where an image can come from: for scores without a model only from their record."""
    return ["record"] if own_runs.is_own(run) else list(SOURCES)


def validate_source(run: dx.Run) -> str:
    """The chosen source; an unknown one is reported and replaced by the record."""
    given = st.session_state.get(SOURCE)
    if given not in sources(run):
        if given is not None and given not in SOURCES:
            notice(f"An image comes from one of {', '.join(SOURCES)}, not from {escape_markdown(repr(given), 60)}.")
        given = "record"
    st.session_state[SOURCE] = given
    return str(given)


def validate_row(record: dx.ExitRecord, first: Callable[[], int]) -> int:
    """The chosen row of ``record``, ``first`` by default and for other images; one that it lacks is reported."""
    choices.keep_for(IMAGE, choices.images_of(record))
    given = st.session_state.get(IMAGE)
    try:
        row = first() if given is None else int(given)
    except (TypeError, ValueError):
        row = -1
    if not 0 <= row < record.n_images:
        notice(
            f"There is no image {escape_markdown(repr(given), 60)} here: they go from 0 to {record.n_images - 1}. "
            "Showing 0."
        )
        row = 0
    st.session_state[IMAGE] = st.session_state[ROW] = row
    return row


def source() -> str:
    return str(st.session_state[SOURCE])


def open_row(row: int) -> None:
    st.session_state.update({IMAGE: row, SOURCE: "record"})


def open_typed_row() -> None:
    open_row(st.session_state[ROW])


def open_clicked(what: str) -> None:
    """Choose the row of a clicked image: ``image 17``."""
    kind, _, number = what.partition(" ")
    if kind == "image" and number.isdecimal():
        open_row(int(number))


def chosen(point: OperatingPoint) -> ChosenImage | None:
    """The image that the validated choices describe, at first one that tells much; None without an upload."""
    run, split = point.run, point.split
    source, row = validate_source(run), validate_row(point.record, lambda: dx.analysis.telling_image(point.outcome))
    if source == "record":
        st.session_state.pop(_ABSENT, None)
        return ChosenImage(run, split, row)
    if st.session_state.get(_UPLOAD_FROM) != {"file": FILE, "camera": PHOTO}[source]:  # of the other widget, now empty
        _forget_upload()
    upload: UploadedImage | None = st.session_state.get(_UPLOAD)
    return None if upload is None else ChosenImage(run, split, None, upload)


def receive_upload(key: str) -> None:
    """Read what the widget ``key`` holds now: a file, a photo, or nothing after it was removed."""
    state, file = st.session_state, st.session_state.get(key)
    _forget_upload()
    state[_UPLOAD_FROM] = key
    if file is None:
        return
    try:
        state[_UPLOAD] = read_upload(file.name, file.getvalue())
    except ValueError as error:
        notes.write(notes.UPLOAD, str(error))


def _forget_upload() -> None:
    st.session_state[_UPLOAD] = None
    notes.write(notes.UPLOAD, None)


def follow_link() -> None:
    """An address was taken over: the image that its sender uploaded is not part of it."""
    st.session_state[_ABSENT] = st.session_state.get(SOURCE) in ("file", "camera") and not st.session_state.get(_UPLOAD)


def absent() -> bool:
    """Whether an upload is missing that a link, or the page before it was loaded again, had."""
    return bool(st.session_state.get(_ABSENT)) and not st.session_state.get(_UPLOAD)


def with_model() -> bool:
    return bool(st.session_state.get(QUERY))


def address(image: ChosenImage | None) -> dict[str, str]:
    """Query parameters of the choice; an uploaded image is not part of them."""
    if image is not None and image.row is not None:
        return {IMAGE: str(image.row)}
    return {SOURCE: source()}

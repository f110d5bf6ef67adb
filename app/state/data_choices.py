"""Choices of the page Bring your own: images or scores; of images a data set, which is in the address, or a folder,
which is not: a link names no folder.
"""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app import access
from dmpo_explore_app.services import class_rows, data_check
from dmpo_explore_app.state import choices, notes

import dmpo_explore as dx

WHAT, WAYS = "bring", {"images": "images to train on", "scores": "scores of a model"}
DATA, PLACE, CALIBRATION = "data", "data_place", "data_calibration"
ZIP, FORECAST, TRAIN = "data_zip", "data_forecast", "data_train"  # keys of widgets
FIND, ORDER, VIEW = CLASSES = ("data_find", "data_order", "data_rows")
KEYS = (WHAT, DATA)  # of the address and of the state
FOLDER = "a folder of mine"
DEFAULT = "digits"  # where no run says more


def validate_way() -> str:
    return choices.validate(WHAT, list(WAYS), "images", "choice")


def offered(private: bool) -> list[str]:
    """What can be checked: known data sets, and on this machine a folder."""
    return [*dx.data.DATASETS, *([FOLDER] if private else [])]


def validate(private: bool) -> str:
    """The chosen data set or `FOLDER`; what is not offered gives a notice."""
    return choices.validate(DATA, offered(private), _of_the_run(private), "data set")


def _of_the_run(private: bool) -> str:
    """The data of the session's run; a folder, on this machine only, is filled in where none is typed."""
    try:
        data = dx.load_run(choices.chosen_run(dx.list_runs())).config.data
    except (OSError, ValueError, IndexError):
        return DEFAULT
    place = data.train_dir or data.name
    if place in dx.data.DATASETS:
        return place
    if private:
        st.session_state.setdefault(PLACE, place)
    return FOLDER if private else DEFAULT


def config() -> dx.DataConfig:
    """The data that are chosen; ValueError where no folder is typed, or none may be opened."""
    name = str(st.session_state[DATA])
    if name == FOLDER:
        name = data_check.place(str(st.session_state.get(PLACE) or ""))
    return dx.DataConfig(name, calibration=True if st.session_state.get(CALIBRATION) else None)


def use_folder() -> None:
    st.session_state[DATA] = FOLDER


def receive_zip() -> None:
    """In a callback: unpack the ZIP file that was sent, and look at its folder."""
    state, file = st.session_state, st.session_state.get(ZIP)
    notes.write(notes.ZIP, None)
    if file is None:
        return
    try:
        access.check_private("ZIP files are unpacked")
        state.update({DATA: FOLDER, PLACE: str(dx.data.unpack_images(file.getvalue()))})
    except (OSError, ValueError) as error:
        notes.write(notes.ZIP, str(error))


def view() -> class_rows.ClassView:
    state = st.session_state
    state[FIND] = str(state.get(FIND) or "")[: class_rows.LONGEST]
    state.setdefault(ORDER, next(iter(data_check.ORDERS)))
    state.setdefault(VIEW, "ends")
    return class_rows.ClassView(state[FIND], state[ORDER], state[VIEW])


def typed() -> bool:
    return bool(str(st.session_state.get(PLACE) or "").strip())


def address() -> dict[str, str]:
    """What is brought where it is scores; else the known data set that is shown. A folder is left out."""
    if st.session_state[WHAT] != "images":
        return {WHAT: str(st.session_state[WHAT])}
    chosen = str(st.session_state[DATA])
    return {} if chosen == FOLDER else {DATA: chosen}

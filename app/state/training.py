"""State of the training form: the values of its widgets in the session, and the config that they stand for.

In: a `dx.Config` that the widgets should show. Out: values under one key per option of the config, and, read back, a
checked config and a name. Options without a widget keep the values of the config that the form began with.
"""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.services import record_folder

import dmpo_explore as dx

NAME, PRESET, FOLDER_PATH = "train name", "train start", "train folder"  # keys of widgets
_BASE = "train base"
FOLDER = "a folder of mine"  # the choice of a data set that is none of the known ones
DIRS = ("data.train_dir", "data.val_dir", "data.calibration_dir", "data.test_dir")
KEYS = ("data.image_key", "data.label_key")
LEFT_OUT = ("data.root", "data.seed", "data.class_names", *KEYS, *DIRS, "training.workers")  # they stay as they are
MOST_EXITS = 64  # more than any backbone on offer has blocks
UPRIGHT = ("digits",)  # data whose images must not be mirrored


def key(option: str) -> str:
    """The key of an option's widget; ``option`` is ``part.name``."""
    return f"train {option}"


def begun() -> bool:
    """Whether the widgets have values."""
    return _BASE in st.session_state


def preset() -> str:
    """Name of the config that the form began with; empty before that."""
    return str(st.session_state.get(PRESET) or "")


def begin_with(name: str, config: dx.Config) -> None:
    """Let the widgets show the config of this name, unless they have values."""
    if not begun():
        fill(config)
    st.session_state.setdefault(PRESET, name)


def value(option: str) -> object:
    """The value of an option's widget; None before it is filled."""
    return st.session_state.get(key(option))


def fill(config: dx.Config) -> None:
    """Let the widgets show ``config``."""
    st.session_state[_BASE] = config
    for option, found in dx.OPTIONS.items():
        value = config.get(option)
        if option == "model.exits":
            value = found.typed(value)
        st.session_state[key(option)] = 0.0 if found.zero_is_none and value is None else value
    if config.data.name not in dx.data.DATASETS:
        st.session_state[key("data.name")] = FOLDER
        st.session_state[FOLDER_PATH] = config.data.name


def read() -> dx.Config:
    """The config of the widgets' values.

    Raises:
        ValueError: a value out of range; the message names it.
    """
    state, base = st.session_state, st.session_state[_BASE]
    values = {option: state.get(key(option), base.get(option)) for option in dx.OPTIONS if option not in LEFT_OUT}
    values["model.exits"] = _exits(str(values["model.exits"]))
    if values["data.name"] == FOLDER:
        values["data.name"] = _folder(str(state.get(FOLDER_PATH) or ""))
    if values["data.name"] != base.data.name:  # other data than the folders of splits that it began with
        values |= dict.fromkeys((*DIRS, *KEYS, "data.class_names"))
    zeros = {option: None for option in values if dx.OPTIONS[option].zero_is_none and not values[option]}
    config: dx.Config = base.updated(values | zeros)
    return config


def name() -> str:
    """The run's name as typed, without blanks around it."""
    return str(st.session_state.get(NAME) or "").strip()


def forget_name() -> None:
    """Let the form propose another name, after a run of this one was started."""
    st.session_state.pop(NAME)


def propose_name(stem: str = "mine") -> None:
    """Fill in a name that is free, unless one is there: ``mine``, or with the first number that makes it new."""
    if NAME in st.session_state:
        return
    taken = {*dx.list_runs(), *(job.name for job in dx.jobs.list_jobs())}
    names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, len(taken) + 2))
    st.session_state[NAME] = next(found for found in names if found not in taken)


def follow_data() -> None:
    """After a change of the data set: mirror its images, unless they must stay upright."""
    st.session_state[key("training.flip")] = st.session_state[key("data.name")] not in UPRIGHT


def _exits(text: str) -> int | list[int]:
    try:
        exits = dx.parse_exits(text)
    except ValueError as error:
        raise ValueError(f"Exits: {error}") from None
    if (exits if isinstance(exits, int) else len(exits)) > MOST_EXITS:
        raise ValueError(f"Exits: {text} are too many; at most {MOST_EXITS} can be trained here")
    return exits


def _folder(text: str) -> str:
    if not text.strip():
        raise ValueError("Say where the folder of images lies.")
    if dx.data.reader_name(text.strip()):
        return text.strip()
    return str(record_folder.find(text))

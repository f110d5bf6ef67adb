"""State of the training form: values under one key per option of the config, and the checked config that they stand
for. Options without a widget keep the values of the config that the form began with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice, with_code
from dmpo_explore_app.services import data_check
from dmpo_explore_app.state import url

import dmpo_explore as dx

NAME, PRESET, FOLDER_PATH = "train name", "train start", "train folder"  # keys of widgets
BEGIN, RUN_NAME, FORM = ADDRESS = ("begin", "name", "form")  # of the address
_BASE, _FIRST, _LINK, _PROPOSED = "train base", "_train_first", "_train_link", "_train_proposed"
FOLDER = "a folder of mine"  # the choice of a data set that is none of the known ones
DIRS = ("data.train_dir", "data.val_dir", "data.calibration_dir", "data.test_dir")
KEYS = ("data.image_key", "data.label_key")
TABLE = ("data.path_column", "data.label_column", "data.suffix", "data.image_dir")  # typed where a table is
TEACHER, NO_TEACHER, OWN_TEACHER = "training.teacher", "", "own"
NO_WIDGET = (
    "data.unlabelled", "model.tune_layers", f"{TEACHER}_exit", f"{TEACHER}_views", f"{TEACHER}_share",
    f"{TEACHER}_temperature",
)  # fmt: skip
LEFT_OUT = (
    "data.root", "data.seed", "data.class_names", *KEYS, *DIRS, *TABLE, *NO_WIDGET, "training.workers",
)  # of the address  # fmt: skip
SMALLEST, LARGEST, MOST_EPOCHS = 1e-6, 10**6, 10_000  # typed here; the schedule is drawn for every epoch
MOST_EXITS = 64  # more than any backbone on offer has blocks
UPRIGHT = ("digits",)  # data whose images must not be mirrored


def key(option: str) -> str:
    return f"train {option}"


def choices(option: str) -> tuple[str, ...]:
    if option == TEACHER:
        return (NO_TEACHER, OWN_TEACHER, *dx.list_runs())
    return (*dx.OPTIONS[option].names, *([FOLDER] if option == "data.name" else []))


def bounds(option: str) -> tuple[float, float | None]:
    """The smallest and the largest number that can be typed for an option; None: unbounded."""
    found = dx.OPTIONS[option]
    whole = int in found.kinds
    if found.lt is not None:
        most: float | None = found.lt - 0.01
    else:
        most = found.le if found.le is not None else LARGEST if whole else None
    if option == "training.epochs":
        most = MOST_EPOCHS
    if found.gt is not None and not found.zero_is_none:
        return found.gt + SMALLEST, most
    return found.ge or 0, most


def wider_bounds(option: str) -> tuple[float, float | None]:
    """`bounds` with the number that the form began with: a field would replace one beyond its ends by its smallest."""
    least, most = bounds(option)
    first = st.session_state[_BASE].get(option)
    if first is None:
        return least, most
    return min(least, first), None if most is None else max(most, first)


def begun() -> bool:
    return _BASE in st.session_state


def preset() -> str:
    """Name of the config that the form began with; empty before that."""
    return str(st.session_state.get(PRESET) or "")


def begin_with(offered: Mapping[str, dx.Config]) -> None:
    """Give the widgets the values of the address, or at first the first config of ``offered``, name → config."""
    state, first = st.session_state, next(iter(offered))
    state[_FIRST] = first
    given = state.pop(_LINK, None)
    if given is None:
        if not begun():
            fill(offered[first])
        state.setdefault(PRESET, first)
        return
    start = given[BEGIN] or first
    if start not in offered:
        notice(f"There is no start {escape_markdown(repr(start), 60)} here; showing {first}.")
        start, given = first, dict.fromkeys(given)
    state[PRESET] = start
    try:
        fill(offered[start].updated(_changes(given[FORM] or "{}")))
    except ValueError as error:
        notice(f"The link's settings cannot be used. {with_code(error, 300)}")
        fill(offered[start])
    state[_BASE] = offered[start]
    if given[RUN_NAME]:
        state[NAME] = given[RUN_NAME]


def start_with(name: str, config: dx.Config, usual: dx.Config) -> None:
    """In a callback: let the form begin as start ``name``, which is ``usual``, with ``config`` in its place."""
    st.session_state[PRESET] = name
    fill(config)
    st.session_state[_BASE] = usual


def follow_link() -> None:
    """Take over the form of the address, which `url.follow` has put into the state: `begin_with` reads it."""
    given = {part: st.session_state.get(part) for part in ADDRESS}
    if any(given.values()):
        st.session_state[_LINK] = given


def linked() -> str:
    """Name of the start that the address asks for, until `begin_with` has read it."""
    return str((st.session_state.get(_LINK) or {}).get(BEGIN) or "")


def address() -> dict[str, str]:
    """Query parameters of the form: its start, a typed name, what differs from the start; no folder."""
    if not begun():
        return {}
    state, parts = st.session_state, {}
    try:
        base, config = state[_BASE], read(folder=False)
    except ValueError:
        return {}
    changed = {option: config.get(option) for option in dx.OPTIONS if option not in LEFT_OUT}
    changed = {option: value for option, value in changed.items() if value != base.get(option)}
    text = json.dumps(changed, separators=(",", ":"))
    if changed and len(text) <= url.LONGEST:
        parts[FORM] = text
    if name() not in ("", state.get(_PROPOSED)):
        parts[RUN_NAME] = name()
    if parts or preset() != state.get(_FIRST):
        parts[BEGIN] = preset()
    return parts


def _changes(text: str) -> dict[str, object]:
    """Options and values of an address: numbers, switches, names that the form offers; ValueError for anything else,
    such as a path."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("they are nested too deeply") from None
    if not isinstance(found, dict) or set(found) - (set(dx.OPTIONS) - set(LEFT_OUT)):
        raise ValueError("they are not options of this form")
    for option, value in found.items():
        if isinstance(value, str) and value not in choices(option):
            raise ValueError(f"{option} has no choice {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and option != "model.exits":
            least, most = bounds(option)
            if not least <= value <= (math.inf if most is None else most):
                raise ValueError(f"{option} cannot be {value!r} in this form")
    return found


def value(option: str) -> object:
    return st.session_state.get(key(option))


def is_table() -> bool:
    """Whether the folder that was typed is a table of images."""
    text = str(st.session_state.get(FOLDER_PATH) or "").strip().lower()
    return value("data.name") == FOLDER and text.endswith((".csv", ".jsonl", ".parquet"))


def fill(config: dx.Config) -> None:
    st.session_state[_BASE] = config
    for option, found in dx.OPTIONS.items():
        value = config.get(option)
        if option == "model.exits":
            value = found.typed(value)
        shown_as_zero = found.zero_is_none and int not in found.kinds  # else by an empty field
        st.session_state[key(option)] = 0.0 if shown_as_zero and value is None else value
    if config.data.name not in dx.data.DATASETS:
        st.session_state[key("data.name")] = FOLDER
        st.session_state[FOLDER_PATH] = "" if config.data.name == FOLDER else config.data.name


def read(folder: bool = True) -> dx.Config:
    """The config of the widgets' values; without ``folder`` `FOLDER` stands for it. ValueError: out of range."""
    state, base = st.session_state, st.session_state[_BASE]
    values = {option: state.get(key(option), base.get(option)) for option in dx.OPTIONS if option not in LEFT_OUT}
    values["model.exits"] = _exits(str(values["model.exits"]))
    if values["data.name"] == FOLDER and folder:
        values["data.name"] = data_check.place(str(state.get(FOLDER_PATH) or ""))
    if values["data.name"] != base.data.name:  # other data than the folders of splits that it began with
        values |= dict.fromkeys((*DIRS, *KEYS, "data.class_names", "data.unlabelled"))
    values |= {option: (value(option) or None) if is_table() else None for option in TABLE}
    zeros = {option: None for option in values if dx.OPTIONS[option].zero_is_none and not values[option]}
    config: dx.Config = base.updated(values | zeros)
    return config


def name() -> str:
    """The run's name as typed, without blanks around it."""
    return str(st.session_state.get(NAME) or "").strip()


def forget_name() -> None:
    """Let the form propose another name, after a run of this one was started."""
    st.session_state.pop(NAME)


def propose_name() -> None:
    """Fill in a name that is free, unless one is there: ``mine``, or with the first number that makes it new."""
    if NAME in st.session_state:
        return
    taken = {*dx.list_runs(), *(job.name for job in dx.jobs.list_jobs())}
    names = ("mine" if i == 1 else f"mine-{i}" for i in range(1, len(taken) + 2))
    st.session_state[NAME] = st.session_state[_PROPOSED] = next(found for found in names if found not in taken)


def follow_data() -> None:
    """After a change of the data set: mirror its images, unless they must stay upright."""
    st.session_state[key("training.flip")] = st.session_state[key("data.name")] not in UPRIGHT


def _exits(text: str) -> int | tuple[int, ...]:
    try:
        exits = dx.parse_exits(text)
    except ValueError as error:
        raise ValueError(f"Exits: {error}") from None
    if (exits if isinstance(exits, int) else len(exits)) > MOST_EXITS:
        raise ValueError(f"Exits: {text} are too many; at most {MOST_EXITS} can be trained here")
    return exits

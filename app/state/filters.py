"""Which images are looked at, in which order.

In: a record, the exits of a policy, ``st.session_state`` (perhaps filled from the address). Out: row numbers. A bar, a
cell, a picture, a row of the table and the widgets all set the same five values; `clear` forgets them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import notice, plain

import dmpo_explore as dx
from dmpo_explore.utils.typing import Bools, Ints

ANSWERS = {
    "all": "every image",
    "right": "answered rightly where it leaves",
    "wrong": "answered wrongly where it leaves",
    "overthought": "right where it leaves, wrong at the last exit",
    "too early": "wrong where it leaves, right at the last exit",
}
SORTS = ("mixed", "least sure", "most sure", "number", "class")
VIEWS = ("pictures", "table")
KEYS = ("exit", "class", "answers", "sort", "image", "view")  # of the address and of the state


class Selection(NamedTuple):
    """What is chosen; exit and label count from 1, 0 is all of them. ``image``: a row of the record, or None."""

    exit: int
    label: int
    answers: str
    sort: str
    image: int | None

    @property
    def narrowed(self) -> bool:
        """Whether anything is left out or picked."""
        return bool(self.exit or self.label) or self.answers != "all" or self.image is not None


def settle(record: dx.ExitRecord) -> Selection:
    """The values in the state, made valid; what was not is said."""
    state, names = st.session_state, record.meta.class_names
    if isinstance(asked := state.get("class"), str) and names.count(asked) == 1:
        state["class"] = names.index(asked) + 1
    for key, most in (("exit", record.n_exits), ("class", len(names))):
        state[key] = _whole(key, state.get(key), most)
    state["image"] = _whole("image", state.get("image"), record.n_images, first=0, none=None)
    for key, options in (("answers", tuple(ANSWERS)), ("sort", SORTS), ("view", VIEWS)):
        if state.get(key) not in options:
            if state.get(key) is not None:
                notice(f"There is no {key} {plain(repr(state[key]), 60)} here; showing {options[0]}.")
            state[key] = options[0]
    return Selection(state["exit"], state["class"], state["answers"], state["sort"], state["image"])


def _whole(key: str, asked: Any, most: int, first: int = 1, none: int | None = 0) -> int | None:
    if asked is None or asked == none:
        return none
    try:
        number = int(asked)
    except ValueError:
        number = -1
    if first <= number < first + most:
        return number
    notice(f"There is no {key} {plain(repr(asked), 60)} here; showing all.")
    return none


def address(selection: Selection, record: dx.ExitRecord) -> dict[str, str]:
    """What differs from the usual, for the address."""
    parts = {}
    if selection.exit:
        parts["exit"] = str(selection.exit)
    if selection.label:
        names, name = record.meta.class_names, record.meta.class_names[selection.label - 1]
        parts["class"] = name if names.count(name) == 1 else str(selection.label)
    if selection.image is not None:
        parts["image"] = str(selection.image)
    defaults = {"answers": "all", "sort": SORTS[0], "view": VIEWS[0]}
    return parts | {key: st.session_state[key] for key, usual in defaults.items() if st.session_state[key] != usual}


def toggle(what: str) -> None:
    """A click on ``exit 2``, ``class 5``, ``cell 5 2`` (class 5 at exit 2) or ``image 17``; once more undoes it."""
    kind, *numbers = what.split() or [""]
    keys = {"exit": ("exit",), "class": ("class",), "cell": ("class", "exit"), "image": ("image",)}.get(kind, ())
    if not keys or len(numbers) != len(keys) or not all(number.isdecimal() for number in numbers):
        return
    state, values = st.session_state, [int(number) for number in numbers]
    again = [state.get(key) for key in keys] == values
    for key, value in zip(keys, values, strict=True):
        state[key] = (None if key == "image" else 0) if again else value
    if kind != "image":
        first_page()


def clear() -> None:
    """Everything is shown again."""
    st.session_state.update({"exit": 0, "class": 0, "answers": "all", "image": None})
    first_page()


def first_page() -> None:
    """Other images: their pages begin at the first."""
    st.session_state["_turn"] = st.session_state.get("_turn", 0) + 1


def mask(record: dx.ExitRecord, exits: Ints, right: Bools, selection: Selection) -> Bools:
    """(B,) who is chosen."""
    last = record.prediction[:, -1] == record.labels
    found = {"right": right, "wrong": ~right, "overthought": right & ~last, "too early": ~right & last}
    keep = np.asarray(found.get(selection.answers, np.ones(record.n_images, bool)))
    if selection.exit:
        keep = keep & (exits == selection.exit - 1)
    if selection.label:
        keep = keep & (record.labels == selection.label - 1)
    return keep


def ordered(record: dx.ExitRecord, exits: Ints, keep: Bools, sort: str, mixed: Ints) -> Ints:
    """Rows that are kept, in order; ``mixed`` is a fixed order of all, which also settles ties."""
    rows = mixed[keep[mixed]]
    if sort == "mixed":
        return rows
    if sort == "number":
        return np.sort(rows)
    if sort == "class":
        return rows[np.argsort(record.labels[rows], kind="stable")]
    sure = record.confidence[rows, exits[rows]]
    return rows[np.argsort(sure if sort == "least sure" else -sure, kind="stable")]


def pages(rows: Ints, exits: Ints, n_exits: int, sections: bool, size: int) -> int:
    """How many pages of ``size`` there are; with ``sections``, of each exit's own images."""
    most = int(np.bincount(exits[rows], minlength=n_exits).max(initial=0)) if sections else rows.size
    return max(1, -(-most // size))

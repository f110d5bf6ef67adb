"""The images that Previous and Next go through on One image: the selection of Explore, which can be left, or all."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st
from dmpo_explore_app.services import selection
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.selection import Selection, SelectionPlace
from dmpo_explore_app.state import filters, image_choices, operating_point

import dmpo_explore as dx

ADDRESS = (filters.EXIT, filters.CLASS, filters.ANSWER, filters.SORT, filters.REGION)  # of the address and of the state
EVERY = "All images"  # a button's key and label
_LEFT = "_selection_left"  # the filters and the order that were left for all images


def follow(keys: Iterable[str]) -> None:
    """Take over the page's address, and its selection even if it was left before; see `operating_point.follow`."""
    if operating_point.follow(keys):
        image_choices.follow_link()
        st.session_state.pop(_LEFT, None)


def place(point: OperatingPoint, row: int) -> SelectionPlace:
    """The place of ``row`` among the images that are gone through."""
    return selection.place(point.outcome, _selected(point.record), row)


def _selected(record: dx.ExitRecord) -> Selection | None:
    """The validated filters and order; None where none is set, and where they were left."""
    chosen = filters.validate(record).alone
    return None if chosen in (selection.ALL, st.session_state.get(_LEFT)) else chosen


def leave() -> None:
    st.session_state[_LEFT] = filters.selection().alone


def leave_for(row: int) -> None:
    """Open a row beside the image, among all images."""
    leave()
    image_choices.open_row(row)


def address(chosen: ChosenImage | None, record: dx.ExitRecord) -> dict[str, str]:
    """Query parameters of the image and of the selection, of which there are none where it was left."""
    selected = _selected(record)
    return image_choices.address(chosen) | ({} if selected is None else filters.address(selected, record))


def not_in_address(record: dx.ExitRecord) -> str:
    """What of the selection the address does not hold; empty if it holds all."""
    return filters.not_in_address(record) if _selected(record) else ""

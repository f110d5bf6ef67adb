"""Checks of images, made one at a time and kept for a state of their files; which of many classes are shown. Folders
are opened for browsers on the app's own machine only; others may look at known data sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st
from dmpo_explore_app import access
from dmpo_explore_app.services import class_rows, model_queue, models, record_folder

import dmpo_explore as dx

IMAGES = 4  # of every class on the contact sheet
PROBED = 600  # training images that a forecast reads
ORDERS = {
    "most images": "those with the most images first",
    "fewest images": "those with the fewest images first",
    "name": "from A to Z",
    "number": "as the data number them",
}


def place(text: str) -> str:
    """The folder or table that was typed, absolute, or timm's name of data; ValueError where none may be opened."""
    access.check_private("Folders of images are opened")
    if not text.strip():
        raise ValueError("Type the path of a folder or table of images.")
    return text.strip() if dx.data.reader_name(text.strip()) else str(record_folder.find(text))


def check(data: dx.DataConfig, progress: Callable[[int, int], None]) -> dx.data.DataCheck:
    """`dx.data.check_data` with thumbnails, again where a file has changed; nothing is raised but for a full queue."""
    key = (data, _stamp(data))
    found = _kept().get(key)
    if found is None:
        with model_queue.exclusive_use("a check of images"):
            found = dx.data.check_data(data, progress, thumbnails=IMAGES)
        _kept().keep(key, found)
    checked: dx.data.DataCheck = found
    return checked


def forecast(data: dx.DataConfig, progress: Callable[[int, int], None]) -> list[str]:
    """What `dx.probe` says of a few of the images with the usual model; raises as it."""
    key = ("forecast", data, _stamp(data))
    found = _kept().get(key)
    if found is None:
        with model_queue.exclusive_use("a forecast"):
            found = dx.probe(data, images=PROBED, progress=progress).lines()
        _kept().keep(key, found)
    lines: list[str] = found
    return lines


def _stamp(data: dx.DataConfig) -> str:
    return _known_stamp(data) if data.name in dx.data.DATASETS else dx.data.data_stamp(data)


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def _known_stamp(data: dx.DataConfig) -> str:
    """That of a known data set: thousands of files that are not edited."""
    return dx.data.data_stamp(data)


@st.cache_resource(show_spinner=False)
def _kept() -> models.Kept:
    return models.Kept(6)


def rows(found: dx.data.DataCheck, view: class_rows.ClassView) -> list[int]:
    """Classes in an order: those that contain a text, or both ends of many."""
    total = np.sum([*found.counts.values()], axis=0)
    names = found.class_names
    keys: dict[str, Callable[[int], object]] = {
        "most images": lambda c: -int(total[c]),
        "fewest images": lambda c: int(total[c]),
        "name": lambda c: names[c].casefold(),
        "number": lambda c: c,
    }
    order = sorted(class_rows.found(names, view.find).tolist(), key=keys[view.order])  # type: ignore[arg-type]
    many = view.view == "ends" and not view.find and len(order) > 2 * class_rows.ENDS
    return [*order[: class_rows.ENDS], *order[-class_rows.ENDS :]] if many else order


def sheet(found: dx.data.DataCheck, label: int) -> list[str]:
    return [dx.figures.thumbnail_address(image) for image in found.thumbnails.get(found.class_names[label], [])]

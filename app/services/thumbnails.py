"""The images of a record, small enough for a page, in their own shape (`dx.figures.thumbnail_address`). Each data set
is read once and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import streamlit as st
from dmpo_explore_app.services import own_runs, records
from dmpo_explore_app.services.records import Stamp

import dmpo_explore as dx

THUMBNAIL, LARGE = 160, 384  # pixels of the longer side; larger images are made smaller


def image_set(run: dx.Run, split: str) -> dx.data.ImageSet:
    """The images of the record; raises as `Run.image_set`."""
    return image_set_at(records.stamp(run, split))


def image_set_at(stamp: Stamp) -> dx.data.ImageSet:
    if reason := _mismatch(stamp):
        raise ValueError(reason)
    return _images(stamp)


@st.cache_data(max_entries=64, ttl=10, show_spinner=False)
def _mismatch(stamp: Stamp) -> str:
    """Why these are not the record's images, which takes as long as to read them; empty where they are."""
    try:
        _images(stamp)
    except ValueError as error:
        return str(error)
    return ""


@st.cache_resource(max_entries=8, show_spinner="Reading the images …")
def _images(stamp: Stamp) -> dx.data.ImageSet:
    path, split, *_ = stamp
    return own_runs.run_at(path).image_set(split)


def thumbnails(run: dx.Run, split: str, most: int = THUMBNAIL) -> Callable[[int], str]:
    """Row of the record → data URI of its image, at most ``most`` pixels, or of `not_read`; raises as
    `Run.image_set`."""
    return _thumbnails(records.stamp(run, split), most)


@lru_cache(maxsize=16)
@st.cache_resource(max_entries=16, show_spinner=False)
def _thumbnails(stamp: Stamp, most: int) -> Callable[[int], str]:
    images = image_set_at(stamp)

    @lru_cache(maxsize=4096 if most == THUMBNAIL else 64)
    def read(row: int) -> str:
        return dx.figures.thumbnail_address(images[row], most)

    def thumbnail(row: int) -> str:
        try:
            return read(row)
        except (OSError, ValueError):  # gone or changed since it was recorded; *One image* says which and why
            return not_read()

    return thumbnail


@cache
def not_read() -> str:
    """A crossed grey tile in place of an image that cannot be read, or whose file is not the recorded one any more."""
    tile = np.full((56, 56, 3), 225, np.uint8)
    rows = np.arange(56)
    tile[rows, rows] = tile[rows, 55 - rows] = (150, 60, 60)
    return dx.figures.thumbnail_address(tile)

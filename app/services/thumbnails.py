"""The images of a record, small enough for a page; of any shape, and never distorted.

In: a run and a split. Out: uint8 images, and functions from row to data URI. Each data set is read once and kept.

Images keep their aspect; pages put them into squares of a neutral colour. Of an image more than `LONGEST_SHAPE` times
as long as wide the middle is shown: the whole would be a line.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import own_runs, records
from dmpo_explore_app.services.records import Stamp
from PIL import Image

import dmpo_explore as dx

THUMBNAIL, LARGE = 160, 384  # pixels of the longer side; larger images are made smaller
EXACT = 72  # up to so many pixels an image stays as it is, in PNG, and pages enlarge it without smoothing
LONGEST_SHAPE = 5


def image_set(run: dx.Run, split: str) -> dx.data.ImageSet:
    """The images of the record; raises as `Run.image_set`."""
    return image_set_at(records.stamp(run, split))


def image_set_at(stamp: Stamp) -> dx.data.ImageSet:
    """`image_set` by its key."""
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
    """Row of the record → data URI of its image, or of `not_read`; raises as `Run.image_set`.

    Args:
        most: pixels of the longer side.
    """
    return _thumbnails(records.stamp(run, split), most)


@st.cache_resource(max_entries=16, show_spinner=False)
def _thumbnails(stamp: Stamp, most: int) -> Callable[[int], str]:
    images = image_set_at(stamp)

    @lru_cache(maxsize=4096 if most == THUMBNAIL else 64)
    def read(row: int) -> str:
        return data_uri(images[row], most)

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
    return data_uri(tile)


def middle(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of an image (H, W, 3) that is more than `LONGEST_SHAPE` times as long as wide; others as they are."""
    parts = []
    for side, other in (image.shape[:2], image.shape[1::-1]):
        kept = min(side, LONGEST_SHAPE * other)
        parts.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    return image[tuple(parts)]


def smaller(image: npt.NDArray[np.uint8], most: int) -> Image.Image:
    """`middle` of an image, its longer side at most ``most`` pixels; an image without colour in grey."""
    part = middle(image)
    grey = bool((part == part[..., :1]).all())  # a third of the bytes
    drawn = Image.fromarray(np.ascontiguousarray(part[..., 0] if grey else part))
    drawn.thumbnail((most, most))
    return drawn


def data_uri(image: npt.NDArray[np.uint8], most: int = THUMBNAIL) -> str:
    """uint8 (H, W, 3) → a data URI of `smaller`: PNG up to `EXACT` pixels, else JPEG."""
    drawn, stream = smaller(image, most), io.BytesIO()
    if max(drawn.size) > EXACT:
        drawn.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    drawn.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

"""The images of a record, small enough for a page.

In: a run and a split. Out: uint8 images, and functions from row to data URI. Each data set is read once and kept.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import records
from dmpo_explore_app.services.records import Stamp
from PIL import Image

import dmpo_explore as dx

THUMBNAIL = 160  # pixels; larger images are made smaller, smaller ones stay as they are


def image_set(run: dx.Run, split: str) -> dx.data.ImageSet:
    """The images of the record; raises as `Run.image_set`."""
    return _image_set(records.stamp(run, split))


@st.cache_resource(max_entries=8, show_spinner="Reading the images …")
def _image_set(stamp: Stamp) -> dx.data.ImageSet:
    path, split, *_ = stamp
    return dx.load_run(path).image_set(split)


def thumbnails(run: dx.Run, split: str) -> Callable[[int], str]:
    """Row of the record → data URI of its image, or of `not_read`; raises as `Run.image_set`."""
    return _thumbnails(records.stamp(run, split))


@st.cache_resource(max_entries=8, show_spinner=False)
def _thumbnails(stamp: Stamp) -> Callable[[int], str]:
    images = _image_set(stamp)

    @lru_cache(maxsize=4096)
    def read(row: int) -> str:
        return data_uri(images[row])

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


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """uint8 (H, W, 3) → a data URI: PNG at its own size, or JPEG at `THUMBNAIL` pixels if it is larger.

    An image without colour is written in grey.
    """
    grey = bool((image == image[..., :1]).all())  # a third of the bytes
    drawn, stream = Image.fromarray(image[..., 0] if grey else image), io.BytesIO()
    if max(drawn.size) > THUMBNAIL:
        drawn.thumbnail((THUMBNAIL, THUMBNAIL))
        drawn.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    drawn.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

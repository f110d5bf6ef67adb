"""The images of a record, small enough for a page, in their own shape, and many as one picture of square tiles."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import streamlit as st
from dmpo_explore_app.services import own_runs, records
from dmpo_explore_app.services.records import Stamp
from PIL import Image, ImageOps

import dmpo_explore as dx

THUMBNAIL, LARGE = 160, 384  # pixels of the longer side; larger images are made smaller
SIDES = {300: 72, 2500: 32}  # up to so many tiles → pixels of a tile's side
SMALL = 16  # of more


def image_set(run: dx.Run, split: str) -> dx.data.ImageSet:
    """The images of the record; raises as `Run.image_set`."""
    return image_set_at(records.stamp(run, split))


def image_set_at(stamp: Stamp) -> dx.data.ImageSet:
    if reason := _mismatch(stamp):
        raise ValueError(reason)
    return _images(stamp)


def are_here(stamp: Stamp) -> bool:
    """Whether there are images, which may be fetched later; the reason why not stands in the gallery."""
    try:
        image_set_at(stamp)
    except (OSError, ValueError):
        return False
    return True


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
    try:
        return own_runs.run_at(path).image_set(split)
    except ImportError as error:  # of a reader's package: as images that are not here
        raise FileNotFoundError(str(error)) from error


def thumbnails(run: dx.Run, split: str, most: int = THUMBNAIL) -> Callable[[int], str]:
    """Row → data URI of its image, at most ``most`` pixels, or of `not_read`; raises as `Run.image_set`."""
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


class Sheet(NamedTuple):
    """A picture of square tiles: its data URI, pixels of a tile's side, tiles in a row."""

    uri: str
    side: int
    columns: int


@st.cache_resource(max_entries=24, show_spinner="Drawing the images small …")
def sheet_at(stamp: Stamp, rows: tuple[int, ...]) -> Sheet:
    """The sheet of these images of a record, in their order; raises as `Run.image_set`."""
    images = image_set_at(stamp)
    side = next((side for most, side in SIDES.items() if len(rows) <= most), SMALL)
    columns = max(1, round(len(rows) ** 0.5))
    lines = -(-len(rows) // columns)
    picture = Image.new("RGB", (columns * side, lines * side), (128, 128, 128))
    for place, row in enumerate(rows):
        try:
            tile = Image.fromarray(np.ascontiguousarray(images[row]))
        except (OSError, ValueError):  # gone or changed since it was recorded: a grey tile
            continue
        corner = (place % columns * side, place // columns * side)
        picture.paste(ImageOps.fit(tile, (side, side), Image.Resampling.BOX), corner)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=75, method=0)
    return Sheet("data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), side, columns)

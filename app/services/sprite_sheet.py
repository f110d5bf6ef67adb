"""Many small images in one picture, row by row: the tiles of the mosaic. Of an image that is not square the middle is
taken."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
import streamlit as st
from dmpo_explore_app.services import thumbnails
from dmpo_explore_app.services.records import Stamp
from PIL import Image, ImageOps

SIDES = {300: 72, 2500: 32}  # up to so many tiles → pixels of a tile's side
SMALL = 16  # of more
Rows = tuple[int, ...]


class Sheet(NamedTuple):
    """A picture of square tiles: its data URI, pixels of a tile's side, tiles in a row."""

    uri: str
    side: int
    columns: int


@st.cache_resource(max_entries=24, show_spinner="Drawing the images small …")
def sheet_at(stamp: Stamp, rows: Rows) -> Sheet:
    """The sheet of these images of a record, in their order; raises as `Run.image_set`."""
    images = thumbnails.image_set_at(stamp)
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

"""Images that a page works on: rows of a record, and images that a user uploads."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app.services import model_queue, records, thumbnails

import dmpo_explore as dx

PREVIEW = 1400  # pixels of the longer side of what is shown of an image


@lru_cache(maxsize=32)
def shuffled(n_images: int) -> npt.NDArray[np.int64]:
    """(n_images,) fixed random order of rows, the same for every threshold; not to be changed."""
    order = np.random.default_rng(0).permutation(n_images)
    order.flags.writeable = False
    return order


def number_of(record: dx.ExitRecord, row: int) -> int:
    """Position of the image at ``row`` in the data's split; the row itself where positions were not recorded."""
    return row if record.meta.indices is None else int(record.meta.indices[row])


class UploadedImage(NamedTuple):
    """Image file that a user uploaded, in the session's memory: bytes, SHA-256, width and height, what is shown. Of an
    edited image the ``pixels``, and no bytes."""

    name: str
    data: bytes
    digest: str
    size: tuple[int, int]
    preview: npt.NDArray[np.uint8]
    pixels: npt.NDArray[np.uint8] | None = None


class ChosenImage(NamedTuple):
    """Image that a page works on: a row of the record of ``run`` and ``split``, or an uploaded one."""

    run: dx.Run
    split: str
    row: int | None  # None for an uploaded image
    upload: UploadedImage | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Cache key: the states of the record and of the weights, and the image."""
        which = self.row if self.upload is None else self.upload.digest
        return *records.stamp(self.run, self.split), which

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 at full size; raises as `Run.image_set`."""
        if self.upload is not None:
            kept = self.upload.pixels
            return dx.data.read_image(self.upload.data, self.upload.name) if kept is None else kept
        return thumbnails.image_set(self.run, self.split)[self.row or 0]

    def preview_and_size(self) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """What is shown of it, (H, W, 3) uint8, and width and height of the whole image; raises as `pixels`."""
        if self.upload is not None:
            return self.upload.preview, self.upload.size
        pixels = self.pixels()
        return _shown(pixels), (pixels.shape[1], pixels.shape[0])

    def name(self, record: dx.ExitRecord) -> str:
        """File name of an uploaded image, else split and number."""
        return f"{self.split} image {number_of(record, self.row or 0)}" if self.upload is None else self.upload.name


def read_upload(name: str, data: bytes) -> UploadedImage:
    """Decode and check an uploaded file, one at a time in this process; raises as `dx.data.read_image`."""
    with model_queue.exclusive_use("an uploaded image"):
        pixels = dx.data.read_image(data, name)
        preview = _shown(pixels)
    size = (pixels.shape[1], pixels.shape[0])
    return UploadedImage(name, data, hashlib.sha256(data).hexdigest(), size, preview)


def edited(image: ChosenImage, name: str, amount: float) -> ChosenImage:
    """The image after an edit of `dx.data.EDITS`, as if it had been uploaded; raises as `ChosenImage.pixels`."""
    return _edited((image.key, name, amount), image)


@st.cache_resource(max_entries=2, show_spinner=False, scope="session")
def _edited(key: tuple[tuple[object, ...], str, float], _image: ChosenImage) -> ChosenImage:
    _, name, amount = key
    with model_queue.exclusive_use("an edited image"):
        pixels = dx.data.edited(_image.pixels(), name, amount)
        preview, digest = _shown(pixels), hashlib.sha256(repr(key).encode()).hexdigest()
    size = (pixels.shape[1], pixels.shape[0])
    return _image._replace(row=None, upload=UploadedImage(name, b"", digest, size, preview, pixels))


def _shown(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(dx.figures.smaller_image(pixels, PREVIEW).convert("RGB"))

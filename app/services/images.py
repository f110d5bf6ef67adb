"""The image that a page is about: of the record, or sent by the reader."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services import cache
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.data.image_files import read_image
from dmpo_explore.utils.typing import Ints


def shuffled(images: int) -> Ints:
    """(images,) a fixed order, so that who stays at an exit keeps their place when the threshold moves."""
    return np.random.default_rng(0).permutation(images)


def number_of(record: dx.ExitRecord, row: int) -> int:
    """Its position in the data's split, or the row where that was not recorded."""
    return row if record.meta.indices is None else int(record.meta.indices[row])


SHOWN = 480  # pixels of what is kept to be looked at


class Sent(NamedTuple):
    """A picture that a reader sent, as it came, and small enough to be shown."""

    name: str
    data: bytes
    digest: str
    size: tuple[int, int]  # width and height
    shown: npt.NDArray[np.uint8]


class Subject(NamedTuple):
    """What is asked about: an image of the record, or a picture that was sent."""

    run: dx.Run
    split: str
    row: int | None  # of the record
    sent: Sent | None

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from others, whatever happens to the run meanwhile."""
        what = self.row if self.sent is None else self.sent.digest
        return *cache.weights_stamp(self.run), *cache.stamp(self.run, self.split), what

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) as it came; raises as `Run.image_set`."""
        if self.sent is not None:
            return read_image(self.sent.data, self.sent.name)
        return cache.pictures(self.run, self.split)[self.row or 0]

    def to_look_at(self) -> npt.NDArray[np.uint8]:
        """The same, or smaller."""
        return self.pixels() if self.sent is None else self.sent.shown


def sent(name: str, data: bytes) -> Sent:
    """Check and keep what somebody sent; raises as `read_image`."""
    pixels = read_image(data, name)
    small = Image.fromarray(pixels)
    small.thumbnail((SHOWN, SHOWN))
    size = (pixels.shape[1], pixels.shape[0])
    return Sent(name, data, hashlib.sha256(data).hexdigest(), size, np.asarray(small))

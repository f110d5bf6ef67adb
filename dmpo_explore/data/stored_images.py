"""Images that are not files of their own: in tar shards, tables of datasets, or arrays. Each has a name and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .image_files import decode_image

Content = Callable[[int], bytes]  # position → the image's bytes
Decode = Callable[[bytes, str], NDArray[np.uint8]]  # bytes and name → uint8 (H, W, 3)


@dataclass(frozen=True)
class StoredImages:
    """Images of one part of a data set by position: uint8 (H, W, 3).

    Args:
        names: of every image, each begins with the part's name and a slash.
        content: position → the bytes that are hashed. decode: these bytes and the name → the image.
    """

    names: Sequence[str]
    content: Content
    decode: Decode = decode_image

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return self.decode(self.content(index), self.names[index])

    def look(self, index: int) -> StoredEntry:
        """Name, size and SHA-256 of an image's bytes."""
        content = self.content(index)
        return StoredEntry(self.names[index], len(content), hashlib.sha256(content).hexdigest())


class StoredEntry(NamedTuple):
    """The manifest's entry of an image: name, size, SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ChosenImages:
    """Some of the images of a part, by position among these; ``rows`` are their positions in the part."""

    part: StoredImages
    rows: NDArray[np.int64]

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return self.part[int(self.rows[index])]

    def name(self, index: int) -> str:
        """The image's name."""
        return self.part.names[int(self.rows[index])]

    def look(self, index: int) -> StoredEntry:
        """As `StoredImages.look`."""
        return self.part.look(int(self.rows[index]))


@dataclass(frozen=True)
class VerifiedImages:
    """Images of any parts, whose bytes are compared with a known SHA-256 whenever one is read.

    Args:
        places: of each image its part and its position there. hashes: SHA-256 of each.
    """

    places: Sequence[tuple[StoredImages, int]]
    hashes: Sequence[str]

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Image ``index``; ValueError where other bytes are there now."""
        part, position = self.places[index]
        content, name = part.content(position), part.names[position]
        if hashlib.sha256(content).hexdigest() != self.hashes[index]:
            raise ValueError(f"{name} has been changed since the training (its SHA-256 differs); restore it")
        return part.decode(content, name)


def pack(image: NDArray[np.uint8]) -> bytes:
    """An image uint8 (H, W, 3) without a file as bytes: its height and width, 4 bytes each, then its pixels.

    Example:
        >>> unpack(pack(np.zeros((2, 1, 3), np.uint8)), "mine").shape
        (2, 1, 3)
    """
    height, width = image.shape[:2]
    size = np.asarray((height, width), "<u4").tobytes()
    return size + np.ascontiguousarray(image, np.uint8).tobytes()


def unpack(content: bytes, name: str) -> NDArray[np.uint8]:
    """The image that `pack` made into bytes."""
    height, width = (int.from_bytes(content[at : at + 4], "little") for at in (0, 4))
    return np.frombuffer(content, np.uint8, offset=8).reshape(height, width, 3)

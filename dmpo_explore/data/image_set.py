"""Images by position, in whatever they lie: files, shards, tables or arrays; and `ImageSet`, some images of one split.

Images that are not files of their own (`StoredImages`) have a name and bytes. `Verified…` compare the bytes with a
known SHA-256 whenever one is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..utils.typing import Array, Ints
from .image_files import decode_image, open_image


class Pixels(Protocol):
    """Images by position: uint8 (H, W) or (H, W, 3)."""

    def __getitem__(self, index: int, /) -> Any: ...


class Pool(NamedTuple):
    """All images of one split as the source has them; images of one of ``groups`` (n,) must stay in one split.

    Example:
        >>> pool = Pool(np.zeros((2, 8, 8), np.uint8), np.array([0, 1]), ("cat", "dog"))
        >>> len(pool.labels), pool.groups
        (2, None)
    """

    pixels: Pixels
    labels: Ints
    class_names: tuple[str, ...]
    groups: Array | None = None


# -- files --


class ImageFiles:
    """Image files by position, read one at a time: uint8 (H, W, 3).

    Args:
        paths: of the files, in order.

    Raises:
        FileNotFoundError: the file that is read is missing.
        ValueError: it is no image, or too large.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (6, 4)).save(f"{folder}/a.png")
        ...     ImageFiles([Path(folder) / "a.png"])[0].shape
        (4, 6, 3)
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return open_image(self.paths[index])


class VerifiedFiles(ImageFiles):
    """Image files whose bytes are compared with a known SHA-256 whenever one is read."""

    def __init__(self, paths: list[Path], hashes: list[str]) -> None:
        super().__init__(paths)
        self.hashes = hashes

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Image ``index``; FileNotFoundError without its file, ValueError where that holds other bytes."""
        path = self.paths[index]
        try:
            return open_image(path, self.hashes[index])
        except FileNotFoundError:
            raise FileNotFoundError(f"no file {path}; restore it, or give the folder that holds it now") from None


# -- images that are no files of their own --

Content = Callable[[int], bytes]  # position → the image's bytes


@dataclass(frozen=True)
class StoredImages:
    """Images of one part of a data set by position: uint8 (H, W, 3).

    Args:
        names: of every image, each begins with the part's name and a slash.
        content: position → the bytes of the image's file, which are hashed.
    """

    names: Sequence[str]
    content: Content

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return decode_image(self.content(index), self.names[index])

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
        return decode_image(content, name)


# -- some images of one split --


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some images of one split.

    Args:
        name, split: where they come from; ``split`` is train, val, calibration or test.
        labels: (n,) int64, 0-based.
        class_names: label → name.
        indices: (n,) int64, positions in the source's split (for ``val`` the one it was cut from).
        pixels: position in the source → uint8 (H, W) or (H, W, 3).

    Example:
        >>> from dmpo_explore.data import load_images
        >>> digits = load_images("digits", "test")
        >>> first = digits.subset(slice(3))
        >>> len(first), first[0].shape, first.labels.tolist(), first.indices.tolist()
        (3, (8, 8, 3), [4, 5, 6], [0, 1, 2])
    """

    name: str
    split: str
    labels: Ints
    class_names: tuple[str, ...]
    indices: Ints
    pixels: Pixels = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> NDArray[np.uint8]:
        """Image ``i`` of these: uint8 (H, W, 3), RGB; a grey one has three equal channels.

        Raises:
            IndexError: no such image.
            ValueError: the file cannot be read as an image; it is named.
        """
        image = np.asarray(self.pixels[int(self.indices[i])], dtype=np.uint8)
        return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image

    def subset(self, rows: list[int] | slice | NDArray[Any]) -> ImageSet:
        """Those at ``rows``: positions, a slice or a boolean mask."""
        return replace(self, labels=self.labels[rows], indices=self.indices[rows])

    def in_order(self, class_names: tuple[str, ...]) -> ImageSet:
        """The same images with their classes numbered in another order; as they are where the names are others, or one
        stands for two classes."""
        if len({*class_names}) < len(class_names) or sorted(class_names) != sorted(self.class_names):
            return self
        number = np.array([class_names.index(name) for name in self.class_names], np.int64)
        return replace(self, labels=number[self.labels], class_names=class_names)

    @property
    def hashes(self) -> list[str] | None:
        """SHA-256 of each image; None for arrays, and for files that have not been hashed."""
        if not isinstance(self.pixels, VerifiedFiles | VerifiedImages):
            return None
        return [self.pixels.hashes[i] for i in self.indices]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of these images, in order, and of their labels; empty if their files have not been hashed.

        Two sets with equal fingerprints hold the same images, in whatever folder.
        """
        labels = np.ascontiguousarray(self.labels, np.int64).tobytes()
        if (hashes := self.hashes) is not None:
            which = "".join(hashes).encode()
        elif isinstance(self.pixels, ImageFiles | ChosenImages):
            return ""
        else:
            source = "test" if self.split == "test" else "train"
            which = f"{self.name} {source} ".encode() + np.ascontiguousarray(self.indices, np.int64).tobytes()
        return hashlib.sha256(which + labels).hexdigest()

    def at(self, indices: Iterable[int]) -> ImageSet:
        """Those with these positions in the source, in this order.

        Raises:
            ValueError: a position that is not in this split.
        """
        wanted, order = np.asarray([*indices], np.int64), np.argsort(self.indices, kind="stable")
        ranked = self.indices[order]
        places = np.minimum(np.searchsorted(ranked, wanted), max(0, len(ranked) - 1))
        known = ranked[places] == wanted if len(ranked) else np.zeros(len(wanted), bool)
        if not known.all():
            raise ValueError(f"{self.name} {self.split} has no image with index {wanted[~known][0]}")
        return self.subset(order[places] if len(ranked) else [])

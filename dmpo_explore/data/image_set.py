"""Images by position, in whatever they lie: files, shards, tables or arrays; and `ImageSet`, some images of one split.

Files and stored images whose SHA-256 is known are compared with it whenever one is read.
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


class ImageFiles:
    """Image files by position, read one at a time: uint8 (H, W, 3).

    Args:
        paths: of the files, in order. hashes: SHA-256 of each, with which a file's bytes are compared whenever it is
            read; None: nothing is compared.

    Raises:
        FileNotFoundError: the file that is read is missing.
        ValueError: it is no image, too large, or holds other bytes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (6, 4)).save(f"{folder}/a.png")
        ...     ImageFiles([Path(folder) / "a.png"])[0].shape
        (4, 6, 3)
    """

    def __init__(self, paths: Sequence[Path], hashes: Sequence[str] | None = None) -> None:
        self.paths, self.hashes = paths, hashes

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        path = self.paths[index]
        if self.hashes is None:
            return open_image(path)
        try:
            return open_image(path, self.hashes[index])
        except FileNotFoundError:
            raise FileNotFoundError(f"no file {path}; restore it, or give the folder that holds it now") from None


class StoredImages:
    """Images that are no files of their own, by position: uint8 (H, W, 3).

    Args:
        names: of every image. content: name → the bytes of the image's file. hashes: as for `ImageFiles`.
    """

    def __init__(
        self, names: Sequence[str], content: Callable[[str], bytes], hashes: Sequence[str] | None = None
    ) -> None:
        self.names, self.content, self.hashes = names, content, hashes

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        content = self.content(name := self.names[index])
        if self.hashes is not None and hashlib.sha256(content).hexdigest() != self.hashes[index]:
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
        known = getattr(self.pixels, "hashes", None)
        return None if known is None else [known[i] for i in self.indices]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of these images, in order, and of their labels; empty if their files have not been hashed.

        Two sets with equal fingerprints hold the same images, in whatever folder.
        """
        labels = np.ascontiguousarray(self.labels, np.int64).tobytes()
        if (hashes := self.hashes) is not None:
            which = "".join(hashes).encode()
        elif isinstance(self.pixels, ImageFiles | StoredImages):
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

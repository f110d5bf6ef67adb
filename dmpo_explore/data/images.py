"""Name and split → images: arrays only, no torch at import.

In: a known data set or the folder of one's own images. Out: `ImageSet`, which gives uint8 (H, W, 3) images, their
labels and their position in the source, so that a record can name its images.

Ours: ``val`` is cut from the training split by a fixed rule and never depends on ``train_size``: 5,000 images for
Fashion-MNIST and CIFAR, 10 % elsewhere, equally from every class. Flowers-102 keeps its published splits. A image's
position counts in the source split it was cut from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..utils.registry import unknown
from ..utils.typing import Ints
from .image_folders import folder_source
from .sources import DATASETS, Pixels, Source, stratified_rows

__all__ = ["DATASETS", "SPLITS", "ImageSet", "fetch_data", "load_images", "stratified_rows"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some images of one split.

    Args:
        name, split: where they come from; ``split`` is train, val or test.
        labels: (n,) int64, 0-based.
        class_names: label → name.
        indices: (n,) int64, positions in the source's split (for ``val`` the one it was cut from).
        pixels: position in the source → uint8 (H, W) or (H, W, 3).

    Example:
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

    def at(self, indices: Iterable[int]) -> ImageSet:
        """Those with these positions in the source, in this order.

        Raises:
            ValueError: a position that is not in this split.
        """
        row_of = {int(index): row for row, index in enumerate(self.indices)}
        try:
            return self.subset([row_of[int(index)] for index in indices])
        except KeyError as error:
            raise ValueError(f"{self.name} {self.split} has no image with index {error.args[0]}") from None


def load_images(
    name: str, split: str, *, root: str | Path | None = None, train_size: int | None = None, seed: int = 0
) -> ImageSet:
    """The images of one split. Downloads nothing (see `fetch_data`).

    Args:
        name: a key of `DATASETS`, or the path of an image folder: root/{train,val,test}/class/x.png or
            root/class/x.png.
        split: train, val or test.
        root: where a known data set lies; default the cache.
        train_size: draw so many of ``train``, equally from every class. Other splits do not depend on it.
        seed: of that draw, and of the 80/10/10 split of an image folder that has none.

    Raises:
        ValueError: unknown name or split, an empty split, a class too small to be divided, or files that are not what
            they should be.
        FileNotFoundError: the data are not there; the message says how to get them.

    Example:
        >>> digits = load_images("digits", "train", train_size=40)
        >>> len(digits), digits[0].shape, digits.class_names[:3]
        (40, (8, 8, 3), ('0', '1', '2'))
    """
    if split not in SPLITS:
        raise ValueError(unknown("split", split, SPLITS))
    source = _source(name, seed)
    asked = split if split == "test" or source.has_val else "train"
    pool = source.read(asked, Path(root).expanduser() if root is not None else None)
    rows = np.arange(len(pool.labels))
    if split != "test" and not source.has_val:
        size = len(rows) // 10 if source.val_size is None else source.val_size
        val = stratified_rows(pool.labels, size, least=2, class_names=pool.class_names)
        rows = val if split == "val" else np.setdiff1d(rows, val)
    if split == "train" and train_size is not None:
        if not 1 <= train_size <= len(rows):
            raise ValueError(f"train_size={train_size}: {name} has 1 to {len(rows)} training images (val is cut off)")
        rows = rows[stratified_rows(pool.labels[rows], train_size, seed=seed)]
    if not len(rows):
        raise ValueError(f"{name} {split} holds no images")
    return ImageSet(name, split, pool.labels[rows], pool.class_names, rows.astype(np.int64), pool.pixels)


def fetch_data(name: str, root: str | Path | None = None) -> Path:
    """Make a data set's training images present and return the folder that holds them; what is there already is kept.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: it cannot be downloaded; the message names the alternatives.

    Example:
        >>> fetch_data("digits").is_dir()  # a part of scikit-learn: nothing is downloaded
        True
    """
    return _source(name, 0).fetch(Path(root).expanduser() if root is not None else None)


def _source(name: str, seed: int) -> Source:
    if name in DATASETS:
        return DATASETS[name]
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder_source(folder, seed)
    raise ValueError(f"{unknown('data', name, DATASETS)}, or the path of an image folder")

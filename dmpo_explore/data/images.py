"""Name and split → images: arrays only, no torch at import.

In: a known data set, or a folder or table of the user's images. Out: `ImageSet`, which returns uint8 (H, W, 3) images,
their labels and their position in the source, so that a record can name its images.

Ours: ``val`` is taken from the training split by a fixed rule and never depends on ``train_size``: 5,000 images for
Fashion-MNIST and CIFAR, 10 % elsewhere, equally from every class. So is ``calibration``, of the same size, from what is
left (`splits.cuts_calibration`). A run without one can get one afterwards: of the images that its ``train_size`` left
unused. Data that come with these splits keep them. An image's position is that in the source split it was taken from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig
from ..utils.registry import unknown
from ..utils.typing import Ints
from .locations import base_folder, named_source, open_source
from .reader_names import reader_name
from .reader_source import fetch_named
from .source import ImageFiles, Pixels, Pool, Source, VerifiedFiles
from .sources import DATASETS
from .splits import SPLITS, cuts_calibration, held_out_rows, stratified_rows
from .stored_images import ChosenImages, VerifiedImages

__all__ = ["DATASETS", "SPLITS", "ImageSet", "available_splits", "fetch_data", "images_of", "load_images"]


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

    @property
    def fingerprint(self) -> str:
        """SHA-256 of these images, in order, and of their labels; empty if their files have not been hashed.

        Two sets with equal fingerprints hold the same images, in whatever folder.
        """
        labels = np.ascontiguousarray(self.labels, np.int64).tobytes()
        if isinstance(self.pixels, VerifiedFiles | VerifiedImages):
            which = "".join(self.pixels.hashes[i] for i in self.indices).encode()
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


def load_images(
    name: str,
    split: str,
    *,
    root: str | Path | None = None,
    train_size: int | None = None,
    seed: int = 0,
    calibration: bool | None = False,
) -> ImageSet:
    """The images of one split. Downloads nothing (see `fetch_data`).

    Args:
        name: a key of `DATASETS`, or the path of an image folder (root/{train,val,test}/class/x.png or
            root/class/x.png) or of a table (CSV or Parquet with columns path, label, optionally split, group), or
            timm's name of a data set (``torch/``, ``hfds/``, ``wds/``, ``tfds/``).
        split: train, val, test, or calibration where the data have one.
        root: folder of a known data set; default: ``DMPO_EXPLORE_DATA`` or the cache.
        train_size: number of images to draw from ``train``, equally from every class. Other splits do not depend on it.
        seed: of that draw, and of the 80/10/10 split of images that have none.
        calibration: make a calibration split; None: if there are enough images, as `train` does.

    Raises:
        ValueError: unknown name or split, an empty split, a class too small to be divided, or damaged files.
        FileNotFoundError: the data are missing; the message names the remedy.

    Example:
        >>> digits = load_images("digits", "train", train_size=40)
        >>> len(digits), digits[0].shape, digits.class_names[:3]
        (40, (8, 8, 3), ('0', '1', '2'))
    """
    where = Path(root).expanduser() if root is not None else None
    data = DataConfig(name, None if where is None else str(where), train_size, seed, calibration=calibration)
    return images_of(data, split, named_source(name, seed, calibration=calibration, root=where))


def images_of(data: DataConfig, split: str, source: Source | None = None) -> ImageSet:
    """The images of one split of a run's data; raises as `load_images`.

    Args:
        source: the data's, where it is open already.

    Example:
        >>> len(images_of(DataConfig("digits", train_size=40), "train"))
        40
    """
    _check_split(split)
    source = source or open_source(data)
    pool = source.read(
        "train" if split in cut_splits(data, source) or _is_spare(data, source, split) else split, _root(data)
    )
    rows = _rows(pool, data, source, split)
    if not len(rows):
        raise ValueError(f"{data.name} {split} holds no images")
    return ImageSet(data.name, split, pool.labels[rows], pool.class_names, rows.astype(np.int64), pool.pixels)


def kept_inside(images: ImageSet, data: DataConfig, folder: Path) -> ImageSet:
    """The same images; ValueError for data within ``folder``, a run's, that lead out of it by links or by a table.

    Example:
        >>> len(kept_inside(load_images("digits", "test"), DataConfig("digits"), Path("runs/mine")))
        359
    """
    folder, base = folder.resolve(), base_folder(data).resolve()
    paths = images.pixels.paths if isinstance(images.pixels, ImageFiles) and base.is_relative_to(folder) else []
    if outside := next((path for path in paths if not path.resolve().is_relative_to(folder)), None):
        raise ValueError(f"{base} lies in the run's own folder and names {outside}, which lies outside; not opened")
    return images


def available_splits(data: DataConfig, source: Source | None = None) -> tuple[str, ...]:
    """The splits that a run's data have, including those taken from train; raises as `open_source`.

    Example:
        >>> available_splits(DataConfig("digits")), available_splits(DataConfig("digits", calibration=True))
        (('train', 'val', 'test'), ('train', 'val', 'calibration', 'test'))
    """
    source = source or open_source(data)
    cut = cut_splits(data, source)
    return tuple(split for split in SPLITS if split in source.splits or split in cut)


def cut_splits(data: DataConfig, source: Source) -> tuple[str, ...]:
    """The splits that are taken from train before training images are drawn, in this order.

    Example:
        >>> cut_splits(DataConfig("fashion-mnist"), open_source(DataConfig("fashion-mnist")))
        ('val', 'calibration')
    """
    if "train" not in source.splits:
        return ()
    cut = [] if "val" in source.splits else ["val"]
    wanted = data.calibration
    if "calibration" not in source.splits and wanted is not False:
        known = wanted or source.val_size is not None
        pool = None if known else source.read("train", _root(data))
        size = source.val_size or (len(pool.labels) // 10 if pool else 0)
        if known or (pool and cuts_calibration(None, size, pool.labels, pool.groups)):
            cut.append("calibration")
    return tuple(cut)


def split_rule(data: DataConfig, source: Source) -> str:
    """The rule by which the images of a run are divided into splits, in words.

    Example:
        >>> split_rule(DataConfig("digits"), open_source(DataConfig("digits")))
        'a fixed fifth of every class is test; val is 10 % of train, equally from every class'
    """
    size = f"{source.val_size:,} images" if source.val_size else "10 %"
    kept = ", whole groups" if source.grouped else ", equally from every class"
    cut = cut_splits(data, source)
    rules = [source.rule, *(f"{split} is {size} of train{kept}" for split in cut)]
    if data.train_size is not None:
        rules.append(f"{data.train_size:,} training images drawn with seed {data.seed}")
    return "; ".join(rules)


def fetch_data(name: str, root: str | Path | None = None) -> Path:
    """Download a data set's training images unless they are present, and return the folder that holds them.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: it cannot be downloaded; the message names the alternatives.

    Example:
        >>> fetch_data("digits").is_dir()  # a part of scikit-learn: nothing is downloaded
        True
    """
    where = Path(root).expanduser() if root is not None else None
    if found := reader_name(name):
        return fetch_named(found, where)
    return named_source(name, root=where).fetch(where)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(unknown("split", split, SPLITS))


def _root(data: DataConfig) -> Path | None:
    return Path(data.root).expanduser() if data.root is not None else None


def _is_spare(data: DataConfig, source: Source, split: str) -> bool:
    """Whether ``split`` is a calibration split made afterwards, of images that the training did not use."""
    return split == "calibration" and split not in (*source.splits, *cut_splits(data, source))


def _rows(pool: Pool, data: DataConfig, source: Source, split: str) -> Ints:
    """The rows of ``pool`` (of train, or of a split that the source has itself) that are ``split``."""
    cut, rows = cut_splits(data, source), np.arange(len(pool.labels))
    spare = _is_spare(data, source, split)
    if split not in (*cut, "train") and not spare:
        return rows
    size = source.val_size or len(rows) // 10
    for number, part in enumerate(cut):
        held = _held_out(pool, rows, size, number)
        if part == split:
            return held
        rows = _without(rows, held)
    drawn = rows
    if data.train_size is not None:
        if not 1 <= data.train_size <= len(rows):
            raise ValueError(
                f"train_size={data.train_size}: {data.name} has 1 to {len(rows)} training images "
                f"({' and '.join(cut) or 'nothing'} {'are' if len(cut) > 1 else 'is'} cut off)"
            )
        drawn = rows[stratified_rows(pool.labels[rows], data.train_size, seed=data.seed)]
    if not spare:
        return drawn
    unused = _without(rows, drawn)
    if len(unused) < size:
        raise ValueError(
            f"{data.name} has no calibration split: it was trained without one, and {len(unused):,} images that it did "
            f"not use are fewer than {size:,}; train with --calibration (calibration=True)"
        )
    return _held_out(pool, unused, size, 1)


def _without(rows: Ints, others: Ints) -> Ints:
    """Rising ``rows`` without ``others``, which are among them."""
    kept = np.zeros(int(rows.max(initial=-1)) + 1, bool)
    kept[rows], kept[others] = True, False
    return np.flatnonzero(kept)


def _held_out(pool: Pool, rows: Ints, size: int, seed: int) -> Ints:
    """About ``size`` of ``rows``, equally from every class, whole groups."""
    groups = None if pool.groups is None else pool.groups[rows]
    return rows[held_out_rows(pool.labels[rows], size, seed=seed, class_names=pool.class_names, groups=groups)]

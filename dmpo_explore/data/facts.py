"""Facts about a run's images, before the findings: every image with its split, class, hash, size and format.

In: a `DataConfig`. Out: `Facts`. Errors of opening and reading are collected, not raised.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig
from ..utils.progress import Progress
from ..utils.typing import Ints
from .file_hashes import relative_path
from .image_files import Refused
from .image_tables import read_class_names
from .images import ImageSet, available_splits, images_of, split_rule
from .ledger import Ledger, take_ledger
from .listing import CLOSED, LINKED, Listing, list_data
from .locations import base_folder, is_own, open_source
from .looks import FileLook, look_at_all, shrunk
from .source import ImageFiles, Source, without_files
from .splits import SPLITS
from .stored_images import ChosenImages

ERRORS = (OSError, ValueError, ImportError)
NO_SPLIT = "undivided"  # split of images that no rule could divide


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts about all images of a run.

    Args:
        data: the run's data. rule: how they are divided; empty if they cannot be opened.
        class_names: those of train first, then others that were found.
        splits: all splits. sets: the readable splits, with the images that a training would use.
        paths, split, labels: (n,) of every image: path relative to the folder, split, class as a number.
        looks: (n,) of every image; empty for arrays that were only counted.
        errors: why the source cannot be opened or a split not be read. left_out: broken files, path → why.
        unused: files in the folder that belong to no class, or are no images. linked: folders in class folders that
            are not read: links, and those that cannot be listed. ledger: see `take_ledger`; empty after an error.
        thumbnails: row → a small image (h, w, 3).
    """

    data: DataConfig
    rule: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    sets: dict[str, ImageSet] = field(repr=False)
    paths: list[str] = field(repr=False)
    split: list[str] = field(repr=False)
    labels: Ints = field(repr=False)
    looks: list[FileLook] = field(repr=False)
    errors: list[Exception]
    left_out: dict[str, FileLook]
    unused: list[str]
    linked: list[str]
    ledger: Ledger
    thumbnails: dict[int, NDArray[np.uint8]] = field(repr=False)

    @property
    def own(self) -> bool:
        """Whether the images are the user's files."""
        return is_own(self.data)

    def counts(self) -> dict[str, Ints]:
        """Split → (C,) images of every class."""
        found = {*self.split}
        order = [split for split in (*SPLITS, NO_SPLIT) if split in found]
        where, C = np.asarray(self.split, dtype=str), len(self.class_names)
        return {split: np.bincount(self.labels[where == split], minlength=C) for split in order}


def gather_facts(
    data: DataConfig, progress: Progress | None = None, *, thumbnails: int = 0, quick: bool = False
) -> Facts:
    """Facts about all images that a training on ``data`` would use.

    Args:
        progress: called with (images read, images in all).
        thumbnails: number per class. quick: only count the images of known data sets of arrays.

    Example:
        >>> facts = gather_facts(DataConfig("digits"), quick=True)
        >>> {split: int(counts.sum()) for split, counts in facts.counts().items()}
        {'train': 1295, 'val': 143, 'test': 359}
    """
    whole = replace(data, train_size=None) if data.skip_broken else data  # which are drawn depends on what is broken
    try:
        source = open_source(data)
        splits, rule, sets, errors = _divided(whole, source)
    except ERRORS as error:
        source, splits, sets, errors, rule = None, (), {}, [error], ""
    listing = list_data(data) if is_own(data) else Listing([], [], [], [])
    read = _Reader(data, sets, listing, loose=bool(errors))
    looks, small = read.look(progress, thumbnails, quick)
    bad: dict[Path, FileLook] = {}
    if data.skip_broken and source is not None:
        broken = [(path, look) for path, look in zip(read.files, looks, strict=bool(read.files)) if look.problem]
        bad = dict(sorted(broken, key=lambda pair: pair[0]))
        try:
            source = without_files(source, bad)
            splits, rule, sets, errors = _divided(data, source)
        except ERRORS as error:
            sets, errors = {}, [error]
        rest = listing._replace(images=[image for image in listing.images if image.path not in bad])
        read = _Reader(data, sets, rest, loose=bool(errors))
        looks, small = read.look(None, thumbnails, quick)  # all of them have been seen
    folder = base_folder(data)
    ledger = {} if source is None or errors else take_ledger(data, source, sets, listing, bad)
    linked = [relative_path(path, folder) for _, path, why in listing.left_out if why in (LINKED, CLOSED)]
    return Facts(
        data, rule, read.class_names, splits, sets, read.paths(folder), read.split, np.asarray(read.labels, np.int64),
        looks, errors, {relative_path(path, folder): look for path, look in bad.items()},
        [relative_path(path, folder) for path in listing.unused], linked, ledger, small,
    )  # fmt: skip


def _divided(data: DataConfig, source: Source) -> tuple[tuple[str, ...], str, dict[str, ImageSet], list[Exception]]:
    """The splits, their rule, those that can be read, and the errors of the others, each once."""
    splits, sets, errors = available_splits(data, source), dict[str, ImageSet](), dict[str, Exception]()
    for split in splits:
        try:
            sets[split] = images_of(data, split, source)
        except ERRORS as error:
            errors.setdefault(str(error), error)
    return splits, split_rule(data, source), sets, [*errors.values()]


class _Reader:
    """Rows of `Facts`: the images of the readable splits, then, where one is not readable, what else is listed."""

    def __init__(self, data: DataConfig, sets: dict[str, ImageSet], listing: Listing, *, loose: bool) -> None:
        self.sets, self.files, self.split = sets, list[Path](), list[str]()
        self.labels: list[int] = []
        names = next((images.class_names for images in sets.values()), ())
        for split, images in sets.items():
            self.split += [split] * len(images)
            self.labels += images.labels.tolist()
            if isinstance(images.pixels, ImageFiles):
                self.files += [images.pixels.paths[i] for i in images.indices]
        if loose:
            known = {*self.files}
            more = [image for image in listing.images if image.path not in known]
            readable = _readable(data)
            found = {label: readable.get(label, label) for _, label in listing.classes}
            names = (*names, *sorted({*found.values()} - {*names}))
            number = {label: names.index(name) for label, name in found.items()}
            self.files += [image.path for image in more]
            self.split += [image.split or NO_SPLIT for image in more]
            self.labels += [number[image.label] for image in more]
        self.class_names = tuple(names)

    def paths(self, folder: Path) -> list[str]:
        """(n,) names of the images: relative paths, or split and number."""
        if self.files:
            return [relative_path(path, folder) for path in self.files]
        if self.stored:
            return [images.pixels.name(int(i)) for images in self.sets.values() for i in images.indices]  # type: ignore[attr-defined]
        return [f"{split} image {i}" for split, images in self.sets.items() for i in images.indices]

    def look(
        self, progress: Progress | None, thumbnails: int, quick: bool
    ) -> tuple[list[FileLook], dict[int, NDArray[np.uint8]]]:
        """A look at every image, and thumbnails of some by row."""
        rows = _spread(self.labels, thumbnails)
        if self.files:
            looks = look_at_all(self.files, progress, [self.files[row] for row in rows])
            return looks, {row: image for row in rows if (image := looks[row].thumbnail) is not None}
        if self.stored:
            return self._look_at_stored(progress, rows)
        every = [(images, i) for images in self.sets.values() for i in range(len(images))]
        small = {}
        for row in rows:
            with suppress(*ERRORS):  # the look names it
                small[row] = shrunk(every[row][0][every[row][1]])
        return ([] if quick else [_look_at_pixels(images, i) for images, i in every]), small

    @property
    def stored(self) -> bool:
        """Whether the images are those of a data set that timm opened."""
        return any(isinstance(images.pixels, ChosenImages) for images in self.sets.values())

    def _look_at_stored(
        self, progress: Progress | None, wanted: list[int]
    ) -> tuple[list[FileLook], dict[int, NDArray[np.uint8]]]:
        looks, small, total = list[FileLook](), dict[int, NDArray[np.uint8]](), len(self.split)
        for images in self.sets.values():
            for i, index in enumerate(images.indices):
                looks.append(_look_at_one(images, i, int(index)))
                if len(looks) - 1 in wanted and not looks[-1].problem:
                    small[len(looks) - 1] = shrunk(images[i])
                if progress and (len(looks) % 100 == 0 or len(looks) == total):
                    progress(len(looks), total)
        return looks, small


def _look_at_one(images: ImageSet, i: int, index: int) -> FileLook:
    """A look at an image that is no file."""
    assert isinstance(images.pixels, ChosenImages)
    try:
        noted = images.pixels.look(index)
    except (OSError, ValueError) as error:
        return FileLook("", 0, problem=str(error))
    try:
        height, width = images[i].shape[:2]
    except (OSError, ValueError) as error:
        large = isinstance(error.__cause__, Refused)
        return FileLook(noted.sha256, noted.bytes, problem=" ".join(str(error).split()), too_large=large)
    return FileLook(noted.sha256, noted.bytes, width, height, "encoded")


def _readable(data: DataConfig) -> dict[str, str]:
    try:
        return {} if data.class_names is None else read_class_names(data.class_names)
    except ERRORS:
        return {}  # opening the source gives the reason


def _look_at_pixels(images: ImageSet, i: int) -> FileLook:
    try:
        pixels = np.ascontiguousarray(images[i])
    except ERRORS as error:
        return FileLook("", 0, problem=f"{images.split} image {i}: {' '.join(str(error).split())}")
    height, width = pixels.shape[:2]
    return FileLook(hashlib.sha256(pixels.tobytes()).hexdigest(), pixels.nbytes, width, height, "arrays")


def _spread(labels: list[int], count: int) -> list[int]:
    """Rows of ``count`` images of every class, evenly spread over its images."""
    if not count or not labels:
        return []
    order = np.argsort(np.asarray(labels), kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(np.asarray(labels)[order])) + 1)
    return [
        int(row) for part in parts for row in part[np.linspace(0, len(part) - 1, min(count, len(part))).astype(int)]
    ]

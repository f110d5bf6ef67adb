"""Facts about a run's images, before the findings: every image with its split, class, hash, size and format.

In: `ImageData`. Out: `Facts`. Errors of opening and reading are collected, not raised. A file is hashed and decoded
once (`FileLook`), several at a time: Pillow decodes without Python's lock. Ours: a JPEG is decoded at an eighth of its
size, which reads all of its bytes and takes half the time. Looks are cached in this process, by path, size and time of
change: a search trains on the same images many times.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..utils.files import sha256
from ..utils.texts import named
from ..utils.typing import Ints, Progress
from .image_data import CLOSED, LINKED, ImageData, Ledger, Listing, relative_path, take_ledger
from .image_files import ORIENTATION, Refused, known_formats, opened, read_errors, to_rgb
from .image_set import ChosenImages, ImageFiles, ImageSet
from .labels import read_class_names
from .splits import SPLITS

ERRORS = (OSError, ValueError, ImportError)
NO_SPLIT = "undivided"  # split of images that no rule could divide
THUMBNAIL = 96  # pixels of the longer side
MOST_KEPT = 200_000  # looks of this process
THREADS = min(8, (os.cpu_count() or 1) + 2)


@dataclass(frozen=True)
class FileLook:
    """The result of inspecting one image file.

    Args:
        sha256: of its bytes; empty without a file. bytes: its size.
        width, height: in pixels, upright; 0 where the header cannot be read.
        format: Pillow's name of it, by the content; empty where none fits.
        problem: why it cannot be read, the text of `open_image`; empty if it can. too_large: whether its size is the
            reason.
        thumbnail: uint8 (h, w, 3), at most `THUMBNAIL` pixels a side, if requested.
    """

    sha256: str
    bytes: int
    width: int = 0
    height: int = 0
    format: str = ""
    problem: str = ""
    too_large: bool = False
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)


def look_at(path: Path, thumbnail: bool = False) -> FileLook:
    """Hash and decode one image file; a problem is a field of the `FileLook`, not an error."""
    try:
        digest, size = sha256(path), path.stat().st_size
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return FileLook("", 0, problem=f"no file {path}" if missing else str(named(error, path)))
    except ValueError as error:
        return FileLook("", 0, problem=str(error))
    found: dict[str, object] = {}
    try:
        with read_errors(path):
            _decode(path, found, thumbnail)
    except (OSError, ValueError) as error:
        large = isinstance(error.__cause__, Refused)
        return FileLook(digest, size, problem=" ".join(str(error).split()), too_large=large, **found)  # type: ignore[arg-type]
    return FileLook(digest, size, **found)  # type: ignore[arg-type]


def look_at_all(
    paths: Sequence[Path], progress: Progress | None = None, thumbnails: Collection[Path] = ()
) -> list[FileLook]:
    """`look_at` for every path, several at a time, in their order.

    Args:
        progress: called with (files read, files in all), for at most every hundredth file and the last.
        thumbnails: the files to make thumbnails of.
    """
    wanted, looks, pool = {*thumbnails}, list[FileLook](), ThreadPoolExecutor(THREADS)
    with warnings.catch_warnings():  # once around all threads: it is not safe within them
        warnings.simplefilter("ignore")
        try:
            for done, look in enumerate(pool.map(lambda path: _kept(path, path in wanted), paths), start=1):
                looks.append(look)
                if progress and (done % 100 == 0 or done == len(paths)):
                    progress(done, len(paths))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return looks


_LOCK = threading.Lock()
_SEEN: dict[tuple[str, str, int, int], FileLook] = {}


def _kept(path: Path, thumbnail: bool) -> FileLook:
    try:
        status = path.stat()
    except OSError:
        return look_at(path)
    key = (str(path), os.path.abspath(path), status.st_size, status.st_mtime_ns)
    seen = _SEEN.get(key)
    if seen is not None and (seen.thumbnail is not None or seen.problem or not thumbnail):
        return seen
    look = look_at(path, thumbnail)
    with _LOCK:
        if len(_SEEN) >= MOST_KEPT:
            _SEEN.clear()
        _SEEN[key] = look
    return look


def _decode(path: Path, found: dict[str, object], thumbnail: bool) -> None:
    """Fill in what is found, as far as the file can be read."""
    try:
        with path.open("rb") as file, Image.open(file, formats=known_formats()) as image:
            found |= {"width": image.width, "height": image.height, "format": image.format or ""}
        with path.open("rb") as file, opened(file, known_formats()) as image:
            if image.format == "JPEG":
                if image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
                    found |= {"width": image.height, "height": image.width}
                image.draft(None, (THUMBNAIL, THUMBNAIL) if thumbnail else (1, 1))
                image.load()
                pixels = to_rgb(image) if thumbnail else None
            else:
                pixels = to_rgb(image)
                found |= {"width": pixels.shape[1], "height": pixels.shape[0]}
    except Image.DecompressionBombError as error:
        raise Refused(f"is far too large: {error}") from None
    if thumbnail and pixels is not None:
        found["thumbnail"] = shrunk(pixels)


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (H, W, 3), or a grey one (H, W), in at most `THUMBNAIL` pixels a side: uint8 (h, w, 3)."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image, np.uint8)


# -- all images of a run --


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts about all images of a run.

    Args:
        data: the run's, without the files in ``left_out``. rule: how they are divided; empty if they cannot be opened.
        class_names: those of train first, then others that were found.
        splits: all splits. sets: the readable splits, with the images that a training would use.
        paths, split, labels: (n,) of every image: path relative to the folder, split, class as a number.
        looks: (n,) of every image; empty for arrays that were only counted.
        errors: why the source cannot be opened or a split not be read. left_out: broken files, path → why.
        unused: files in the folder that belong to no class, or are no images. linked: folders in class folders that
            are not read: links, and those that cannot be listed. ledger: see `take_ledger`; empty after an error.
        thumbnails: row → a small image (h, w, 3).
    """

    data: ImageData
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

    def counts(self) -> dict[str, Ints]:
        """Split → (C,) images of every class."""
        found = {*self.split}
        order = [split for split in (*SPLITS, NO_SPLIT) if split in found]
        where, C = np.asarray(self.split, dtype=str), len(self.class_names)
        return {split: np.bincount(self.labels[where == split], minlength=C) for split in order}


def gather_facts(
    data: ImageData, progress: Progress | None = None, *, thumbnails: int = 0, quick: bool = False
) -> Facts:
    """Facts about all images that a training on ``data`` would use.

    Args:
        progress: called with (images read, images in all).
        thumbnails: number per class. quick: only count the images of known data sets of arrays.

    Raises:
        ValueError: ``skip_broken`` for data of a reader, whose images are no files.
    """
    skipping = data.config.skip_broken
    if skipping and not (data.skips_broken or data.config.unlabelled):
        raise ValueError(
            f"skip_broken (--skip-broken) leaves out single files; {data.config.name} has none. Leave the option out, "
            "and remove what is broken from the data"
        )
    division = _divided(data.undrawn() if skipping else data)  # which are drawn depends on what is broken
    listing = data.listing()
    read = _Reader(data, division.sets, listing, loose=bool(division.errors))
    looks, small = read.look(progress, thumbnails, quick)
    bad: dict[Path, FileLook] = {}
    if skipping and division.splits:
        broken = [(path, look) for path, look in zip(read.files, looks, strict=bool(read.files)) if look.problem]
        bad = dict(sorted(broken, key=lambda pair: pair[0]))
        data = data.without(bad)
        division = _divided(data)
        rest = listing._replace(images=[image for image in listing.images if image.path not in bad])
        read = _Reader(data, division.sets, rest, loose=bool(division.errors))
        looks, small = read.look(None, thumbnails, quick)  # all of them have been seen
    ledger = {} if division.errors else take_ledger(data, division.sets, listing, bad)
    linked = [relative_path(path, data.folder) for _, path, why in listing.left_out if why in (LINKED, CLOSED)]
    return Facts(
        data, division.rule, read.class_names, division.splits, division.sets, read.paths(data.folder), read.split,
        np.asarray(read.labels, np.int64), looks, division.errors,
        {relative_path(path, data.folder): look for path, look in bad.items()},
        [relative_path(path, data.folder) for path in listing.unused], linked, ledger, small,
    )  # fmt: skip


class _Division(NamedTuple):
    """The splits, their rule, the images of those that can be read, and the errors of the others, each once."""

    splits: tuple[str, ...]
    rule: str
    sets: dict[str, ImageSet]
    errors: list[Exception]


def _divided(data: ImageData) -> _Division:
    try:
        splits, rule = data.splits, data.rule
    except ERRORS as error:
        return _Division((), "", {}, [error])
    sets, errors = dict[str, ImageSet](), dict[str, Exception]()
    for split in splits:
        try:
            sets[split] = data.images(split)
        except ERRORS as error:
            errors.setdefault(str(error), error)
    return _Division(splits, rule, sets, [*errors.values()])


class _Reader:
    """Rows of `Facts`: the images of the readable splits, then, where one is not readable, what else is listed."""

    def __init__(self, data: ImageData, sets: dict[str, ImageSet], listing: Listing, *, loose: bool) -> None:
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
            readable: dict[str, str] = {}
            with suppress(*ERRORS):  # reading the images gives the reason
                readable = {} if data.config.class_names is None else read_class_names(data.config.class_names)
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

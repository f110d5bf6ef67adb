"""Data of a run, opened once: what they are, where they lie, how they are divided, how their images are found again.

In: a `DataConfig`; `images.open_data` chooses the kind. Out: `ImageData`, which is handed on to the check, the
manifest, the training and all that reads the images later. Nothing is read before it is asked for.

Ours: ``val`` is taken from the training split by a fixed rule and never depends on ``train_size``: 5,000 images for
Fashion-MNIST and CIFAR, 10 % elsewhere, equally from every class. So is ``calibration``, of the same size, from what is
left (`splits.cuts_calibration`). A run without one can get one afterwards: of the images that its ``train_size`` left
unused. Data that come with these splits keep them. An image's position is that in the source split it was taken from.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, ClassVar, Self

import numpy as np

from ..config import DataConfig
from ..utils.files import expanded, sha256
from ..utils.registry import unknown
from ..utils.texts import few
from ..utils.typing import Ints, Progress
from .image_set import ImageFiles, ImageSet, Pixels, Pool, VerifiedFiles
from .labels import read_class_names, renamed
from .listing import Listing, list_class
from .splits import SPLITS, cuts_calibration, held_out_rows, stratified_rows


@dataclass(frozen=True)
class FileRow:
    """One image: the path of its file (relative to the data's folder, with ``/``), size, SHA-256 and label.

    Of a data set that timm opens ``path`` is the image's name: the part, then its place there.
    """

    path: str
    bytes: int
    sha256: str
    label: int


class ImageData:
    """Images of a run's data: their splits, the rule of these, and every split's images.

    A kind of data gives ``folder``, ``given``, ``given_rule`` and ``read``, and overrides what it does otherwise.

    Args:
        config: of the run.

    Example:
        >>> from dmpo_explore.data import open_data
        >>> data = open_data(DataConfig("digits", train_size=40))
        >>> data.splits, len(data.images("train")), data.own
        (('train', 'val', 'test'), 40, False)
        >>> data.rule
        'a fixed fifth of every class is test; val is 10 % of train, ...; 40 training images drawn with seed 0'
    """

    own: ClassVar[bool] = True  # whether the images are the user's, not those of a known data set
    skips_broken: ClassVar[bool] = True  # whether single images can be left out
    moved_cure: ClassVar[str] = "record the run with --data FOLDER"  # what a reader does where they were moved
    val_size: int | None = None  # images that are taken from train where there is no val; None: 10 %

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.gone: frozenset[str] = frozenset()  # absolute paths of files that are left out

    # -- what every kind of data says --

    @property
    def folder(self) -> Path:
        """Folder that the paths of a manifest are relative to."""
        raise NotImplementedError

    @property
    def given(self) -> tuple[str, ...]:
        """The splits that the data have before others are taken from train.

        Raises:
            ValueError, FileNotFoundError, ImportError: the data cannot be opened.
        """
        raise NotImplementedError

    @property
    def given_rule(self) -> str:
        """How the images came into these splits, in words."""
        raise NotImplementedError

    @property
    def grouped(self) -> bool:
        """Whether images have groups that must not be divided."""
        return False

    def read(self, split: str) -> Pool:
        """All images of one of ``given``, as the data have them; raises as ``given``."""
        raise NotImplementedError

    def file_groups(self) -> dict[str, Any]:
        """Absolute path of every image file → its group, in whatever split the data have it now."""
        found = dict[str, Any]()
        for pool in map(self.pool, self.given):
            if isinstance(pool.pixels, ImageFiles) and pool.groups is not None:
                found |= zip(map(os.path.abspath, pool.pixels.paths), pool.groups, strict=True)
        return found

    def fetch(self) -> Path:
        """Download the data unless they are here, and return their folder; FileNotFoundError where that fails."""
        raise NotImplementedError

    def moved(self, place: str | Path) -> DataConfig:
        """The same data in another location: a folder, a table, or the root of a known data set.

        Raises:
            FileNotFoundError: no such file or folder. ValueError: it is of another kind.
        """
        raise NotImplementedError

    def fetch_missing(self) -> None:
        """Download what a new run names, if that is a data set of a hub that is not here; raises as `fetch`."""

    def located(self) -> DataConfig:
        """The config with absolute paths, so that the data are found from any folder."""
        given = (self.config.root, self.config.class_names, self.config.unlabelled)
        root, names, unlabelled = (text if text is None else str(absolute(text)) for text in given)
        return replace(self.config, root=root, class_names=names, unlabelled=unlabelled)

    # -- the splits --

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits, those taken from train included; raises as ``given``."""
        cut = self.cut
        return tuple(split for split in SPLITS if split in self.given or split in cut)

    @cached_property
    def cut(self) -> tuple[str, ...]:
        """The splits that are taken from train before training images are drawn, in this order."""
        if "train" not in self.given:
            return ()
        cut = [] if "val" in self.given else ["val"]
        wanted = self.config.calibration
        if "calibration" not in self.given and wanted is not False:
            known = wanted or self.val_size is not None
            pool = None if known else self.pool("train")
            size = self.val_size or (len(pool.labels) // 10 if pool else 0)
            if known or (pool and cuts_calibration(None, size, pool.labels, pool.groups)):
                cut.append("calibration")
        return tuple(cut)

    @property
    def rule(self) -> str:
        """The rule by which the images are divided into splits, in words."""
        size = f"{self.val_size:,} images" if self.val_size else "10 %"
        kept = ", whole groups" if self.grouped else ", equally from every class"
        rules = [self.given_rule, *(f"{split} is {size} of train{kept}" for split in self.cut)]
        if self.config.train_size is not None:
            rules.append(f"{self.config.train_size:,} training images drawn with seed {self.config.seed}")
        return "; ".join(rules)

    def images(self, split: str) -> ImageSet:
        """The images of one split.

        Raises:
            ValueError: an unknown or empty split, a class too small to be divided, or damaged files.
            FileNotFoundError: the data are missing; the message names the remedy.
        """
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        name = self.config.name
        pool = self.pool(self.origin(split))
        rows = self._rows(pool, split)
        if not len(rows):
            raise ValueError(f"{name} {split} holds no images")
        return ImageSet(name, split, pool.labels[rows], pool.class_names, rows.astype(np.int64), pool.pixels)

    def origin(self, split: str) -> str:
        """The split of the data themselves that the images of ``split`` are in; their positions are those in it."""
        return "train" if split in self.cut or self._is_spare(split) else split

    def pool(self, split: str) -> Pool:
        """`read`, without the files that are left out and with readable class names."""
        pool = self.read(split)
        if self.gone and isinstance(pool.pixels, ImageFiles):
            paths = pool.pixels.paths
            kept = [row for row, path in enumerate(paths) if os.path.abspath(path) not in self.gone]
            groups = None if pool.groups is None else pool.groups[kept]
            pool = Pool(ImageFiles([paths[row] for row in kept]), pool.labels[kept], pool.class_names, groups)
        if (path := self.config.class_names) is not None:
            pool = pool._replace(class_names=renamed(pool.class_names, self._readable, path))
        return pool

    @cached_property
    def _readable(self) -> dict[str, str]:
        return {} if self.config.class_names is None else read_class_names(self.config.class_names)

    def without(self, paths: Iterable[Path]) -> Self:
        """The same data without these files: before val is cut off and images are drawn."""
        other = copy.copy(self)
        other.__dict__.pop("cut", None)  # which depends on how many images there are
        other.gone = self.gone | {os.path.abspath(path) for path in paths}
        return other

    def undrawn(self) -> Self:
        """The same data with all training images."""
        other = copy.copy(self)
        other.config = replace(self.config, train_size=None)
        return other

    def _is_spare(self, split: str) -> bool:
        """Whether ``split`` is a calibration split made afterwards, of images that the training did not use."""
        return split == "calibration" and split not in (*self.given, *self.cut)

    def _rows(self, pool: Pool, split: str) -> Ints:
        """The rows of ``pool`` (of train, or of a split that the data have themselves) that are ``split``."""
        cut, rows, wanted = self.cut, np.arange(len(pool.labels)), self.config.train_size
        spare = self._is_spare(split)
        if split not in (*cut, "train") and not spare:
            return rows
        size = self.val_size or len(rows) // 10
        for number, part in enumerate(cut):
            held = _held_out(pool, rows, size, number)
            if part == split:
                return held
            rows = _without(rows, held)
        drawn = rows
        if wanted is not None:
            if not 1 <= wanted <= len(rows):
                raise ValueError(
                    f"train_size={wanted}: {self.config.name} has 1 to {len(rows)} training images "
                    f"({' and '.join(cut) or 'nothing'} {'are' if len(cut) > 1 else 'is'} cut off)"
                )
            drawn = rows[stratified_rows(pool.labels[rows], wanted, seed=self.config.seed)]
        if not spare:
            return drawn
        if pool.groups is not None:
            raise ValueError(
                f"{self.config.name} has no calibration split: it was trained without one, and its groups, which must "
                "stay together, would be divided; train with --calibration (calibration=True)"
            )
        unused = _without(rows, drawn)
        if len(unused) < size:
            raise ValueError(
                f"{self.config.name} has no calibration split: it was trained without one, and {len(unused):,} images "
                f"that it did not use are fewer than {size:,}; train with --calibration (calibration=True)"
            )
        return _held_out(pool, unused, size, 1)

    # -- all that lies in their folders --

    def listing(self) -> Listing:
        """A list of the image files, and of others in the user's folders; empty where there is nothing to list."""
        return Listing([], [], [], [])

    def names(self) -> list[str]:
        """The names of all images, as those of a manifest; none for known data sets, and where none can be listed."""
        return []

    def inputs(self, listing: Listing) -> Mapping[str, int]:
        """Place of the ledger (`ledger`) → number of inputs found there."""
        del listing
        return {split: len(self.read(split).labels) for split in self.given}

    def recounted(self) -> Mapping[str, int]:
        """`inputs` counted again in the folders as they are now; empty where a list says what there is."""
        return {}

    def stamp(self) -> str:
        """SHA-256 of names, sizes and times of change of all files: equal while no file changes.

        Empty for known data sets of arrays, which are verified whenever they are read, without unlabelled images.
        """
        found, digest = self.listing(), hashlib.sha256()
        if not (self.own or found.images or self.config.unlabelled):
            return ""
        more = [expanded(text) for text in (self.config.name, self.config.class_names) if text]
        if self.config.unlabelled:
            list_class(expanded(self.config.unlabelled), "", found)
        for path in (*more, *self._further_files(), *(image.path for image in found.images), *found.unused):
            try:
                status = path.stat()
            except OSError:
                digest.update(f"{path} is not there\n".encode(errors="surrogateescape"))
            else:
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        for split, name in found.classes:
            digest.update(f"{split}/{name}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _further_files(self) -> Sequence[Path]:
        """Files that the listing does not name."""
        return ()

    # -- images of a manifest --

    def rows(
        self, sets: Mapping[str, ImageSet], hashes: Mapping[str, str], progress: Progress | None = None
    ) -> dict[str, tuple[FileRow, ...]]:
        """Split → a row of every image; empty for data sets of arrays, which verify themselves.

        Args:
            hashes: file → SHA-256, of files that have been hashed already.
            progress: called with (images read, images in all).
        """
        paths = {
            split: [images.pixels.paths[i] for i in images.indices]
            for split, images in sets.items()
            if isinstance(images.pixels, ImageFiles)
        }
        names = {path: relative_path(path, self.folder) for inside in paths.values() for path in inside}
        new = [path for path, name in names.items() if not hashes.get(name)]
        found = dict(zip(new, hash_files(new, progress), strict=True))
        return {
            split: tuple(
                FileRow(names[path], path.stat().st_size, found.get(path) or hashes[names[path]], int(label))
                for path, label in zip(paths[split], sets[split].labels, strict=True)
            )
            for split in SPLITS
            if split in paths
        }

    def verified(self, rows: Sequence[FileRow], split: str) -> Pixels:
        """The images of a manifest's rows, compared with their hash whenever one is read.

        Raises:
            FileNotFoundError: images are missing. ValueError: they were changed, or lie outside the data.
        """
        require_inside(rows, self)
        require_files(rows, self.folder, split, self.moved_cure)
        return VerifiedFiles([self.folder / row.path for row in rows], [row.sha256 for row in rows])

    def compare(
        self, rows: Sequence[FileRow], progress: Progress | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the rows whose images are missing, and of those that have been changed.

        Raises:
            FileNotFoundError: the folder is missing. ValueError: as `verified`.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {self.folder}")
        require_inside(rows, self)
        hashes = hash_files([self.folder / row.path for row in rows], progress)
        pairs = list(zip(rows, hashes, strict=True))
        missing = tuple(row.path for row, found in pairs if not found)
        return missing, tuple(row.path for row, found in pairs if found not in ("", row.sha256))


def _without(rows: Ints, others: Ints) -> Ints:
    """Rising ``rows`` without ``others``, which are among them."""
    kept = np.zeros(int(rows.max(initial=-1)) + 1, bool)
    kept[rows], kept[others] = True, False
    return np.flatnonzero(kept)


def _held_out(pool: Pool, rows: Ints, size: int, seed: int) -> Ints:
    """About ``size`` of ``rows``, equally from every class, whole groups."""
    groups = None if pool.groups is None else pool.groups[rows]
    return rows[held_out_rows(pool.labels[rows], size, seed=seed, class_names=pool.class_names, groups=groups)]


# -- paths and hashes --


def absolute(text: str | Path) -> Path:
    """An absolute path without links; ``~`` is the home folder."""
    return expanded(text).resolve()


def relative_path(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``, or absolute if it is outside."""
    full, base = os.path.abspath(path), os.path.abspath(folder)
    inside = full.startswith(os.path.join(base, ""))
    return Path(os.path.relpath(full, base) if inside else full).as_posix()


def hash_files(paths: Sequence[Path], progress: Progress | None = None) -> list[str]:
    """SHA-256 of every file, several at a time; empty for a missing one.

    Example:
        >>> hash_files([Path("nowhere")])
        ['']
    """

    def one(path: Path) -> str:
        try:
            return sha256(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: it is no regular file
            return ""

    found = []
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        for done, value in enumerate(pool.map(one, paths), start=1):
            found.append(value)
            if progress and (done % 100 == 0 or done == len(paths)):
                progress(done, len(paths))
    return found


def require_inside(rows: Sequence[FileRow], data: ImageData) -> None:
    """Raise ValueError for rows with an absolute path, unless the table or the folders of the data list this file."""
    outside = [row.path for row in rows if PurePath(row.path).is_absolute()]
    if outside:
        listed = {*data.names()}
        outside = [path for path in outside if path not in listed]
    if outside:
        raise ValueError(
            f"the manifest lists {len(outside):,} files outside {data.folder} ({few(outside)}), which "
            "neither a table nor folders of the run's data list; they are not opened. Images outside a table's folder "
            "are found only where they lay at the training"
        )


def require_files(rows: Sequence[FileRow], folder: Path, split: str, moved_cure: str) -> None:
    """Raise for files that are missing or have another size; their bytes are compared when they are read."""
    absent, changed = [], []
    for row in rows:
        try:
            size = os.stat(folder / row.path).st_size
        except OSError:
            absent.append(row.path)
        else:
            changed += [row.path] * (size != row.bytes)
    if absent:
        raise FileNotFoundError(
            f"{len(absent):,} of {len(rows):,} {split} images are not in {folder} ({few(absent)}); restore them, or, "
            f"if they were moved, {moved_cure}"
        )
    if changed:
        raise ValueError(
            f"{len(changed):,} of {len(rows):,} {split} images in {folder} have been changed since the training "
            f"({few(changed)}); restore them"
        )

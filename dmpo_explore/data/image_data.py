"""Data of a run: what lies in its folders, how it is divided, and a ledger of every input that is used or left out.

Data that cannot be trained on are refused where they are opened; here everything is listed, so that a check can report
all problems at once. Hidden files are no inputs.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..config import DataConfig
from ..utils.files import expanded, sha256
from ..utils.registry import unknown
from ..utils.texts import few
from ..utils.typing import Ints, Progress
from .image_files import is_image_file
from .image_set import ImageFiles, ImageSet, Pixels, Pool, VerifiedFiles
from .labels import read_class_names, renamed
from .splits import SPLITS, cuts_calibration, held_out_rows, split_of, stratified_rows

FORMAT, OUTSIDE = "of another format", "outside the class folders"
LINKED, CLOSED = "in linked folders, which are not followed", "in folders that cannot be listed"


class Listed(NamedTuple):
    """An image file, its class by folder or table, and its split; empty if unknown."""

    path: Path
    label: str
    split: str


class Listing(NamedTuple):
    """All images of the user's data, all class folders (split, class), and files without a class or image format.

    ``left_out``: everything in the folders that is no image of a class, as (split, path, reason).
    """

    images: list[Listed]
    classes: list[tuple[str, str]]
    unused: list[Path]
    left_out: list[tuple[str, Path, str]]


def list_classes(folder: Path, split: str, found: Listing) -> None:
    """Add what is in a folder of class folders, or of folders of splits, to ``found``."""
    entries: list[Path] = []
    with suppress(OSError):
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for entry in entries:
        if not entry.is_dir():
            found.unused.extend([entry] * is_image_file(entry))
            found.left_out.append((split, entry, OUTSIDE))
        elif not split and (named := split_of(entry.name)):
            list_classes(entry, named, found)
        else:
            found.classes.append((split, entry.name))
            list_class(entry, split, found)


def list_class(folder: Path, split: str, found: Listing) -> None:
    """Add what is in a folder and its subfolders to ``found``, as images of one class."""

    def closed(error: OSError) -> None:
        found.left_out.append((split, Path(error.filename), CLOSED))

    for top, folders, files in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.left_out.extend((split, path, LINKED) for name in folders if (path := Path(top, name)).is_symlink())
        for path in (Path(top, name) for name in sorted(files) if not name.startswith(".")):
            if is_image_file(path):
                found.images.append(Listed(path, folder.name, split))
            else:
                found.unused.append(path)
                found.left_out.append((split, path, FORMAT))


def count_entries(folder: Path) -> int:
    """Entries of a folder of class folders, which may be links themselves."""
    return sum(
        1 if not entry.is_dir() else count_below(entry.path)
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
    )


def count_below(folder: str) -> int:
    """Entries of a folder and its subfolders: files, links to folders, and folders that cannot be listed."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return 1
    return sum(count_below(entry.path) if entry.is_dir(follow_symlinks=False) else 1 for entry in entries)


# Data of a run, opened once: what they are, where they lie, how they are divided, how their images are found again.
#
# In: a `DataConfig`; `images.open_data` chooses the kind. Out: `ImageData`, which is handed on to the check, the
# manifest, the training and all that reads the images later. Nothing is read before it is asked for.
#
# Ours: ``val`` is taken from the training split by a fixed rule and never depends on ``train_size``: 5,000 images for
# Fashion-MNIST and CIFAR, 10 % elsewhere, equally from every class. So is ``calibration``, of the same size, from what
# is left (`splits.cuts_calibration`). A run without one can get one afterwards: of the images that its ``train_size``
# left unused. Data that come with these splits keep them. An image's position is that in the source split it was taken
# from.


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

    @staticmethod
    def moved_to(place: Path, was: str) -> Path:
        """The folder ``place``, if there is one; ``was``: what the run was trained on."""
        if not place.exists():
            raise FileNotFoundError(f"no folder {place}")
        if not place.is_dir():
            raise ValueError(f"{place} is no folder; the run was trained on {was}")
        return place

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
    """SHA-256 of every file, several at a time; empty for a missing one."""

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


# Ledger of inputs: for every place of the data how many inputs were found, how many are used, and why others are not.
#
# In: the data's files as they are walked, and the image sets of a training. Out: place → `LedgerLine`. A place is a
# split that the data bring themselves, or ``all`` where they are undivided. What is found is counted apart from what is
# used, so that an image which no rule mentions makes the sums differ.

ALL, BESIDE = "all", "beside the splits"
BROKEN, NOT_DRAWN = "broken or too large", "not drawn (train_size)"


@dataclass(frozen=True)
class LedgerLine:
    """Inputs of one place: number found, split → number used, reason → number left out."""

    found: int
    used: dict[str, int]
    left_out: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether every input that was found is used or left out for a reason."""
        return self.found == sum(self.used.values()) + sum(self.left_out.values())

    def described(self) -> str:
        """The line in words."""
        used = ", ".join(f"{count:,} {split}" for split, count in self.used.items()) or "none used"
        gone = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"{self.found:,} found: {used}" + (f"; left out: {gone}" if gone else "")


Ledger = dict[str, LedgerLine]


def take_ledger(
    data: ImageData, sets: Mapping[str, ImageSet], listing: Listing, broken: Collection[Path] = ()
) -> Ledger:
    """The ledger of the images that a training would use.

    Args:
        data: without the files that ``skip_broken`` leaves out, which are ``broken``. sets: split → its images.
        listing: of the files.
    """
    found = Counter(data.inputs(listing))
    divided = ALL not in found

    def place(split: str) -> str:
        return split if split in found else "train" if divided and split else BESIDE if divided else ALL

    used = {name: dict[str, int]() for name in found}
    for split in SPLITS:
        if split in sets:
            used.setdefault(place(split), {})[split] = len(sets[split])
    left_out = {name: Counter[str]() for name in used}
    for split, _, reason in listing.left_out:
        left_out.setdefault(place(split), Counter())[reason] += 1
    where = {image.path: image.split for image in listing.images} if broken else {}
    for path in where.keys() & {*broken}:
        left_out[place(where[path])][BROKEN] += 1
    if data.config.train_size is not None and "train" in sets:
        left_out[place("train")][NOT_DRAWN] += len(data.undrawn().images("train")) - len(sets["train"])
    names = [*found, *(name for name in left_out if name not in found)]
    return {name: LedgerLine(found[name], used.get(name, {}), dict(+left_out.get(name, Counter()))) for name in names}


def disagreements(ledger: Ledger) -> list[str]:
    """What does not add up, a sentence for every such place."""
    return [
        f"{place}: {line.described()}; these do not add up to what was found"
        for place, line in ledger.items()
        if not line.agrees
    ]


def used_by_split(ledger: Ledger) -> dict[str, int]:
    """Split → number of images used, over all places."""
    total = Counter[str]()
    for line in ledger.values():
        total.update(line.used)
    return dict(total)


def ledger_values(ledger: Ledger) -> dict[str, Any]:
    """A ledger as plain JSON values."""
    return {place: asdict(line) for place, line in ledger.items()}


def read_ledger(values: Any, counts: Mapping[str, int]) -> Ledger:
    """A ledger from JSON values; ValueError for another thing, and where it differs from the manifest's counts."""
    if not isinstance(values, dict) or not all(
        isinstance(line, dict)
        and line.keys() == {"found", "used", "left_out"}
        and isinstance(line["used"], dict) and isinstance(line["left_out"], dict)
        and _whole([line["found"], *line["used"].values(), *line["left_out"].values()]) for line in values.values()
    ):  # fmt: skip
        raise ValueError("ledger must be an object of places with found, used and left_out")
    ledger = {place: LedgerLine(**line) for place, line in values.items()}
    if wrong := disagreements(ledger):
        raise ValueError(f"its ledger does not add up: {wrong[0]}")
    used = used_by_split(ledger)  # of known arrays also test, which a manifest does not list
    if ledger and any(used.get(split) != count for split, count in counts.items()):
        raise ValueError(f"its ledger counts {used}, its first line {dict(counts)}")
    return ledger


def _whole(numbers: Iterable[Any]) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)

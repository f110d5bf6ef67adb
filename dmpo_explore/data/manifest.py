"""Manifest: the list of the images that a run was trained, validated and tested on, with the SHA-256 of their files.

In: a `DataConfig`. Out: `Manifest`, kept in the run folder as ``manifest.csv`` (``manifest.csv.gz`` where it is large):
a first line of JSON (format version, data, class names, rule of the split, number and fingerprint of each split), then
a table with path, bytes, sha256, split and label. Known data sets of arrays verify their own files; of them there are
fingerprints of positions and labels instead of rows.

After a training its splits come from the manifest, and every image is compared with its hash when it is read
(`VerifiedFiles`). `manifest_check` compares whole splits with the present files of a folder.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..config import DataConfig
from ..utils.files import atomic_file
from ..utils.texts import few, short
from ..utils.typing import Progress
from .check import DataCheck, check_data
from .findings import untrained_classes
from .image_data import FileRow, ImageData, Ledger, hash_files, ledger_values, read_ledger, used_by_split
from .image_set import ImageSet
from .images import open_data
from .labels import MISSING
from .splits import SPLITS
from .unlabelled import UNLABELLED, UnlabelledData, unlabelled_files

FORMAT_VERSION = 1
MANIFESTS = PLAIN, PACKED = "manifest.csv", "manifest.csv.gz"
MOST_HEAD = 2**25  # characters of the first line
MOST_PLAIN = 20_000  # rows; a longer table is compressed
COLUMNS = ["path", "bytes", "sha256", "split", "label"]
OWN = "own"  # the data of a manifest of files that are the user's
UNUSED = "unused"  # split of images that were there and not drawn
SEEN = "seen"  # split of what teachers were trained on


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a run by split.

    Args:
        data: name of a known data set, or ``own``. class_names: label → name.
        rule: how the images came into the splits.
        counts, fingerprints: of each split (`ImageSet.fingerprint`).
        files: split → rows, in the order of the split; empty where the images are no files.
        unused: paths of files in no split, because ``train_size`` or ``skip_broken`` left them out.
        unlabelled: rows of the images without labels, relative to their own folder.
        left_out: those that ``skip_broken`` left out → why. ledger: of the check before the training, else empty.
        seen: what the run's teachers were trained on, as far as it is not in train or unlabelled: SHA-256, or an
            array's data set, split and position.

    Example:
        >>> manifest = make_manifest(DataConfig("digits", train_size=40))
        >>> manifest.counts, len(manifest.fingerprints["val"])
        ({'train': 40, 'val': 143}, 64)
        >>> manifest.described()
        '40 train, 143 val, 10 classes; a fixed fifth of every class is test; val is 10 % of train...'
    """

    data: str
    class_names: tuple[str, ...]
    rule: str
    counts: dict[str, int]
    fingerprints: dict[str, str]
    files: dict[str, tuple[FileRow, ...]]
    unused: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=dict)
    unlabelled: tuple[FileRow, ...] = ()
    seen: tuple[str, ...] = ()

    def unlabelled_images(self, data: DataConfig) -> ImageSet | None:
        """The images without labels as they were at the training; None without any; raises as `images`."""
        if not self.unlabelled or data.unlabelled is None:
            return None
        opened, n = UnlabelledData(data), len(self.unlabelled)
        pixels = opened.verified(self.unlabelled, UNLABELLED)
        return ImageSet(str(opened.folder), UNLABELLED, np.full(n, MISSING), self.class_names, np.arange(n), pixels)

    def images(self, data: DataConfig | ImageData, split: str) -> ImageSet:
        """The images of ``split`` as they were at the training, read from the location in ``data``.

        Raises:
            ValueError: there was no such split, or a known data set holds other images now.
            FileNotFoundError: files are missing, or have another size (the first few are named).
        """
        data = open_data(data)
        name = data.config.name
        if not self.files:
            images = data.images(split)
            if split in self.fingerprints and images.fingerprint != self.fingerprints[split]:
                raise ValueError(f"{name} {split} is not what the run was trained with: its images or labels differ")
            if images.class_names != self.class_names:
                raise ValueError(f"{name} has other classes than the run was trained with")
            return images
        if split not in self.files:
            raise ValueError(
                f"the run's data had no split {split!r} when it was trained (it had {', '.join(self.files)})"
            )
        rows = self.files[split]
        labels = np.asarray([row.label for row in rows], np.int64)
        return ImageSet(name, split, labels, self.class_names, np.arange(len(rows)), data.verified(rows, split))

    def described(self) -> str:
        """Counts and rule in one line."""
        more = {UNLABELLED: len(self.unlabelled)} if self.unlabelled else {}
        counts = ", ".join(f"{count:,} {split}" for split, count in (self.counts | more).items())
        out = f"; {len(self.left_out):,} left out as broken ({few([*self.left_out])})" if self.left_out else ""
        return f"{counts}, {len(self.class_names)} classes; {self.rule}{out}"


def make_manifest(
    data: DataConfig | ImageData, progress: Progress | None = None, check: DataCheck | None = None
) -> Manifest:
    """Divide a run's images into its splits and hash their files.

    Args:
        progress: called with (files hashed, files in all).
        check: of these data, whose hashes are taken; without one, ``skip_broken`` makes one.

    Raises:
        ValueError, FileNotFoundError: as `images_of`; a class without a training image; other images than ``check``'s.

    Example:
        >>> make_manifest(DataConfig("digits")).counts
        {'train': 1295, 'val': 143}
    """
    data = open_data(data)
    if check is None and data.config.skip_broken:
        check = check_data(data, progress, quick=True)
    left_out, known = ({}, {}) if check is None else (check.left_out, check.hashes)
    data = data.without(data.folder / path for path in left_out)
    name, splits = data.config.name, data.splits
    if "train" not in splits:
        raise FileNotFoundError(f"{name} has no training images (it has {', '.join(splits)})")
    sets = {split: data.images(split) for split in splits if split != "test"}
    train = sets["train"]
    if data.own and (text := untrained_classes(train, data.config.train_size)):
        raise ValueError(text)
    fingerprints = {split: images.fingerprint for split, images in sets.items()}
    files: dict[str, tuple[FileRow, ...]] = {}
    if not all(fingerprints.values()):  # they have no hashes yet
        if "test" in splits:
            sets["test"] = data.images("test")
        files = data.rows(sets, known, progress)
    used = {row.path for rows in files.values() for row in rows}
    unused = tuple(path for path in data.names() if path not in used) if files else ()
    for path in (*used, *unused):
        check_path(path)
    counts = {split: len(sets[split]) for split in SPLITS if split in sets}
    checked = used_by_split(check.ledger) if check is not None and check.ledger else counts
    if any(checked.get(split) != count for split, count in counts.items()):
        raise ValueError(f"{name}: files were added or removed while the images were checked; repeat")
    ledger = {} if check is None else read_ledger(ledger_values(check.ledger), counts)
    unlabelled = _unlabelled_rows(data.config, left_out, known, progress)
    listed = OWN if data.own else name, train.class_names, data.rule
    made = Manifest(*listed, counts, fingerprints, files, unused, dict(left_out), ledger, unlabelled)
    if not files:
        return made
    return replace(made, fingerprints={split: made.images(data, split).fingerprint for split in files})


def _unlabelled_rows(
    data: DataConfig, left_out: Mapping[str, str], known: Mapping[str, str], progress: Progress | None
) -> tuple[FileRow, ...]:
    files = unlabelled_files(data, left_out)
    new = [path for path in files if str(path) not in known]
    hashes = {str(path): digest for path, digest in zip(new, hash_files(new, progress), strict=True)} | dict(known)
    rows = [(path.relative_to(UnlabelledData(data).folder).as_posix(), path) for path in files]
    return tuple(FileRow(name, path.stat().st_size, hashes[str(path)], MISSING) for name, path in rows)


# -- the file --


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a run folder, whole or not at all."""
    head = {key: getattr(manifest, key) for key in ("data", "class_names", "rule", "counts", "fingerprints")}
    head |= {"left_out": manifest.left_out} if manifest.left_out else {}
    head |= {"ledger": ledger_values(manifest.ledger)} if manifest.ledger else {}
    text = io.StringIO()
    text.write(json.dumps({"format_version": FORMAT_VERSION} | head, ensure_ascii=False) + "\n")
    listed = [*manifest.files.items(), (UNLABELLED, manifest.unlabelled)]
    paths = itertools.chain(manifest.unused, (row.path for _, rows in listed for row in rows))
    returns = any("\r" in path for path in paths)  # Python 3.11 does not quote it
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    text.write(",".join(COLUMNS) + "\n")
    for split, rows in listed:
        table.writerows((row.path, row.bytes, row.sha256, split, row.label) for row in rows)
    for split, texts in ((UNUSED, manifest.unused), (SEEN, manifest.seen)):
        table.writerows((text, "", "", split, "") for text in texts)
    content = text.getvalue().encode(errors="surrogateescape")  # names of files that are no text
    packed = sum(len(rows) for _, rows in listed) + len(manifest.seen) > MOST_PLAIN
    with atomic_file(folder / (PACKED if packed else PLAIN)) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run folder; None where there is none.

    Raises:
        ValueError: the file is damaged or of another format version; it is named.

    Example:
        >>> read_manifest(Path("nowhere")) is None
        True
    """
    path = manifest_file(folder)
    if path is None:
        return None
    try:
        with gzip.open(path) if path.name == PACKED else path.open("rb") as content:
            lines = io.TextIOWrapper(content, "utf-8", errors="surrogateescape", newline="")
            values = _checked_head(json.loads(lines.readline(MOST_HEAD)), path)
            return Manifest(**values, **_read_rows(lines, values))
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError, csv.Error) as error:
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(text if str(path) in text else f"{path} is not a readable manifest: {text}") from None


def _checked_head(values: Any, path: Path) -> dict[str, Any]:
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
        version = values.get("format_version") if isinstance(values, dict) else None
        raise ValueError(f"{path}: format_version={version!r}; this program reads version {FORMAT_VERSION}")
    read = {key: values[key] for key in ("data", "class_names", "rule", "counts", "fingerprints")}
    names = read["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in (*names, read["data"], read["rule"])):
        raise ValueError("class_names must be a list of texts, data and rule a text")
    if not isinstance(read["counts"], dict) or not isinstance(read["fingerprints"], dict):
        raise ValueError("counts and fingerprints must be objects")
    if read["counts"].keys() != read["fingerprints"].keys() or not read["counts"].keys() <= set(SPLITS):
        raise ValueError(f"counts and fingerprints must name the same of the splits {', '.join(SPLITS)}")
    left_out = values.get("left_out", {})
    if not isinstance(left_out, dict) or not all(isinstance(why, str) for why in left_out.values()):
        raise ValueError("left_out must be an object of texts, path: reason")
    ledger = read_ledger(values.get("ledger", {}), read["counts"])
    return read | {"class_names": tuple(names), "left_out": left_out, "ledger": ledger}


def _read_rows(table: Iterable[str], head: dict[str, Any]) -> dict[str, Any]:
    """``files``, ``unused``, ``seen`` and ``unlabelled`` of a `Manifest`."""
    reader = csv.reader(table)
    if next(reader, None) != COLUMNS:
        raise ValueError(f"its second line must be {','.join(COLUMNS)}")
    rows: dict[str, list[FileRow]] = {}
    bare: dict[str, list[str]] = {UNUSED: [], SEEN: []}
    for path, size, digest, split, label in reader:
        check_path(path)
        if split in bare:
            bare[split].append(path)
            continue
        row = FileRow(path, int(size), digest, int(label))
        labels = (MISSING,) if split == UNLABELLED else range(len(head["class_names"]))
        if row.label not in labels or len(digest) != 64:
            raise ValueError(f"the row of {path} is damaged")
        rows.setdefault(split, []).append(row)
    unlabelled = tuple(rows.pop(UNLABELLED, ()))
    if (rows or head["data"] == OWN) and {split: len(found) for split, found in rows.items()} != head["counts"]:
        raise ValueError("its rows are not those that its first line counts")
    files = {split: tuple(found) for split, found in rows.items()}
    return {"files": files, "unlabelled": unlabelled} | {split: tuple(texts) for split, texts in bare.items()}


def check_path(path: str) -> None:
    """Raise ValueError for a path of a manifest that leads out of the data's folder, or is none.

    An absolute path is the user's own where a table lists it, see `image_data.require_inside`; no manifest is written
    with ``..``.
    """
    if not path or "\0" in path or (".." in path and ".." in PurePath(path.replace("\\", "/")).parts):
        raise ValueError(f"{short(path)} leads out of the data's folder; a manifest lists what lies in it")


# -- its first line, which alone is read where the splits are enough --


def manifest_file(folder: Path) -> Path | None:
    """The manifest's file in a run folder; None where there is none."""
    return next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)


def manifest_splits(folder: Path) -> tuple[str, ...]:
    """The splits that a run folder's manifest lists; empty where there is none, or none that can be read."""
    path = manifest_file(folder)
    if path is None:
        return ()
    try:
        with gzip.open(path, "rb") if path.name == PACKED else path.open("rb") as stream:
            return tuple(json.loads(stream.readline(MOST_HEAD))["counts"])
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError):
        return ()


# Differences: files that were added, renamed, changed or removed since a manifest was made.


@dataclass(frozen=True)
class Differences:
    """How the files in a folder differ from a manifest's: relative paths; ``renamed``: old → new path, same bytes.

    ``inputs``: without added images, places of the manifest's ledger that hold another number of inputs, in words.

    Example:
        >>> found = Differences(missing=("cat/1.png",), changed=("dog/2.png",), added=("dog/9.png",))
        >>> found.described()
        '1 missing (cat/1.png), 1 changed (dog/2.png), 1 added (dog/9.png)'
        >>> found.fits, Differences(added=("dog/9.png",)).fits
        (False, True)
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    added: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every image of the manifest is unchanged and in its place; added files are allowed."""
        return not (self.missing or self.changed or self.renamed)

    def described(self) -> str:
        """The missing, changed, renamed and added files: their numbers, and the first three of each."""
        renamed = tuple(f"{old} is now {new}" for old, new in self.renamed)
        parts = {"missing": self.missing, "changed": self.changed, "renamed": renamed, "added": self.added}
        return ", ".join(
            [*(f"{len(names):,} {what} ({few(names)})" for what, names in parts.items() if names), *self.inputs]
        )


def manifest_check(
    manifest: Manifest,
    data: DataConfig | ImageData,
    splits: Iterable[str] = SPLITS,
    progress: Progress | None = None,
) -> Differences:
    """Compare the images of these splits with the manifest by their SHA-256.

    Args:
        progress: called with (images hashed, images in all).

    Raises:
        FileNotFoundError: the folder is missing.

    Example:
        >>> from dmpo_explore.data import make_manifest
        >>> digits = DataConfig("digits")
        >>> manifest_check(make_manifest(digits), digits).fits
        True
    """
    if not manifest.files:
        return Differences()
    data = open_data(data)
    rows = [row for split in splits for row in manifest.files.get(split, ())]
    missing, changed = data.compare(rows, progress)
    known = {row.path for listed in manifest.files.values() for row in listed} | {*manifest.unused}
    added = tuple(path for path in data.names() if path not in known)
    gone = {*missing}
    renamed = _renamed([row for row in rows if row.path in gone], added, data.folder) if gone else {}
    new = {*renamed.values()}
    return Differences(
        tuple(path for path in missing if path not in renamed), changed, tuple(renamed.items()),
        tuple(path for path in added if path not in new), () if added else _recounted(manifest, data),
    )  # fmt: skip


def _recounted(manifest: Manifest, data: ImageData) -> tuple[str, ...]:
    """Places of the ledger whose folders hold another number of inputs now."""
    now = data.recounted() if manifest.ledger else {}
    return tuple(
        f"inputs of {place}: {line.found:,} when it was trained, {now[place]:,} now"
        for place, line in manifest.ledger.items()
        if now.get(place, line.found) != line.found
    )


def _renamed(missing: list[FileRow], added: Sequence[str], folder: Path) -> dict[str, str]:
    """Old → new path of missing files whose bytes are found among the added ones."""
    sizes = {row.bytes for row in missing}
    there = [path for path in added if (folder / path).is_file() and (folder / path).stat().st_size in sizes]
    by_hash: dict[str, list[str]] = {}
    for path, digest in zip(there, hash_files([folder / path for path in there]), strict=True):
        by_hash.setdefault(digest, []).append(path)
    found = {}
    for row in missing:
        if candidates := by_hash.get(row.sha256):
            found[row.path] = candidates.pop(0)
    return found

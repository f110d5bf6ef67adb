"""Manifest: the list of the images that a run was trained, validated and tested on, with the SHA-256 of their files.

In: a `DataConfig`. Out: `Manifest`, kept in the run folder as ``manifest.csv`` (``manifest.csv.gz`` where it is large):
a first line of JSON (format version, data, class names, rule of the split, number and fingerprint of each split), then
the frame of the data as a table, a row an image. Known data sets of arrays verify their own files; of them there are
fingerprints of positions and labels instead of rows.

After a training its splits come from the manifest, and every image is compared with its hash when it is read.
`manifest_check` compares whole splits with the present files of a folder.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..config import DataConfig
from ..utils.files import atomic_file
from ..utils.texts import few, short
from ..utils.typing import Progress
from .check import DataCheck, check_data
from .folders import UnlabelledKind
from .frame import BROKEN, ERRORS, Data
from .image_set import ImageSet
from .images import open_data
from .labels import MISSING
from .looks import hashes_of, require_files
from .splits import SPLITS, UNLABELLED

FORMAT_VERSION = 2
READ = (1, FORMAT_VERSION)  # 1: of 0.2.0, without the columns why and group
MANIFESTS = PLAIN, PACKED = "manifest.csv", "manifest.csv.gz"
MOST_HEAD = 2**25  # characters of the first line
MOST_PLAIN = 20_000  # rows; a longer table is compressed
COLUMNS = ["path", "bytes", "sha256", "split", "label"]
HEAD = ("data", "class_names", "rule", "counts", "fingerprints")
OWN = "own"  # the data of a manifest of files that are the user's
UNUSED = "unused"  # split of images that were there and are not used
SEEN = "seen"  # split of what teachers were trained on


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a run by split.

    Args:
        data: name of a known data set, or ``own``. class_names: label → name.
        rule: how the images came into the splits.
        counts, fingerprints: of each split (`ImageSet.fingerprint`).
        frame: a row an image: `COLUMNS`, why it is left out, and its group where it has one; split ``unused`` where it
            is in none, ``unlabelled`` for those without labels. Empty where the images are no files.
        seen: what the run's teachers were trained on, as far as it is not in train or unlabelled: SHA-256, or an
            array's data set, split and position.
        inputs: place of the data → inputs that were found there.

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
    frame: pd.DataFrame = field(repr=False)
    seen: tuple[str, ...] = ()
    inputs: dict[str, int] = field(default_factory=dict)

    def rows(self, *splits: str) -> pd.DataFrame:
        """The rows of these splits."""
        return self.frame[self.frame["split"].isin(splits)]

    @property
    def listed(self) -> bool:
        """Whether the images are listed one by one."""
        return not self.rows(*SPLITS).empty

    def unlabelled_images(self, data: DataConfig) -> ImageSet | None:
        """The images without labels as they were at the training; None without any; raises as `images`."""
        rows = self.rows(UNLABELLED)
        if rows.empty or data.unlabelled is None:
            return None
        return self._image_set(Data(UnlabelledKind(data)), UNLABELLED)

    def images(self, data: DataConfig | Data, split: str) -> ImageSet:
        """The images of ``split`` as they were at the training, read from the location in ``data``.

        Raises:
            ValueError: there was no such split, or a known data set holds other images now.
            FileNotFoundError: files are missing, or have another size (the first few are named).
        """
        data = open_data(data)
        name = data.config.name
        if self.listed:
            if split not in self.counts:
                raise ValueError(
                    f"the run's data had no split {split!r} when it was trained (it had {', '.join(self.counts)})"
                )
            return self._image_set(data, split)
        images = data.images(split)
        if split in self.fingerprints and images.fingerprint != self.fingerprints[split]:
            raise ValueError(f"{name} {split} is not what the run was trained with: its images or labels differ")
        if images.class_names != self.class_names:
            raise ValueError(f"{name} has other classes than the run was trained with")
        return images

    def _image_set(self, data: Data, split: str) -> ImageSet:
        """Images that are compared with their hash whenever one is read."""
        rows = self.rows(split)
        require_inside(rows, data)
        if data.kind.files:
            require_files(rows, data.kind, split)
        else:
            _require_stored(rows, data)
        labels, name = rows["label"].to_numpy(np.int64), str(data.folder if split == UNLABELLED else data.config.name)
        pixels = data.kind.pixels(split, rows["path"].tolist(), rows["sha256"].tolist())
        return ImageSet(name, split, labels, self.class_names, np.arange(len(rows)), pixels)

    def described(self) -> str:
        """Counts and rule in one line."""
        n_unlabelled, broken = len(self.rows(UNLABELLED)), self.frame["path"][self.frame["why"] == BROKEN].tolist()
        more = {UNLABELLED: n_unlabelled} if n_unlabelled else {}
        counts = ", ".join(f"{count:,} {split}" for split, count in (self.counts | more).items())
        out = f"; {len(broken):,} left out as broken ({few(broken)})" if broken else ""
        return f"{counts}, {len(self.class_names)} classes; {self.rule}{out}"


def make_manifest(
    data: DataConfig | Data, progress: Progress | None = None, check: DataCheck | None = None
) -> Manifest:
    """The list of a run's images by split, with their hashes.

    Args:
        progress: called with (files read, files in all).
        check: of these data; without one, it is made, and what would stop a training is raised.

    Raises:
        ValueError, FileNotFoundError: as `DataCheck.require`.

    Example:
        >>> make_manifest(DataConfig("digits")).counts
        {'train': 1295, 'val': 143}
    """
    if check is None:
        check = check_data(data, progress, quick=True)
        check.require()
    opened, parts = check.opened, list[pd.DataFrame]()
    assert opened is not None
    if "train" not in opened.splits:
        raise FileNotFoundError(f"{opened.config.name} has no training images (it has {', '.join(opened.splits)})")
    sets = {split: opened.images(split) for split in opened.splits if opened.listed or split != "test"}
    if opened.listed:
        parts.append(_image_rows(opened.frame))
    if opened.unlabelled is not None:
        parts.append(_image_rows(opened.unlabelled.frame))
    frame = pd.concat(parts, ignore_index=True) if parts else _no_rows()
    for path in frame["path"]:
        check_path(path)
    return Manifest(
        OWN if opened.own else opened.config.name, opened.classes, opened.rule,
        {split: len(images) for split, images in sets.items()},
        {split: images.fingerprint for split, images in sets.items()},
        frame, inputs={place: line.found for place, line in check.ledger.items()},
    )  # fmt: skip


def _image_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a manifest: of all images of a class, by split, unused ones last."""
    order = {split: number for number, split in enumerate((*SPLITS, UNLABELLED, UNUSED))}
    image = frame[(frame["split"] != "") | (frame["origin"] != "") | (frame["why"] == BROKEN)]
    unused = image["split"] == ""
    image = image.assign(
        split=image["split"].mask(unused, UNUSED),
        bytes=image["bytes"].astype(object).mask(unused, ""),
        sha256=image["sha256"].astype(object).mask(unused, ""),
        label=image["label"].astype(object).mask(unused, ""),
    )
    image = image.sort_values("split", key=lambda split: split.map(order), kind="stable")
    return image[[*COLUMNS, "why", *(["group"] if "group" in image else [])]]


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=[*COLUMNS, "why"], dtype=object)


# -- the file --


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a run folder, whole or not at all."""
    head = {"format_version": FORMAT_VERSION} | {key: getattr(manifest, key) for key in (*HEAD, "inputs")}
    text, seen = io.StringIO(), pd.DataFrame({"path": manifest.seen, "split": SEEN}, dtype=object)
    text.write(json.dumps(head, ensure_ascii=False) + "\n")
    table = pd.concat([manifest.frame, seen], ignore_index=True)
    returns = table["path"].str.contains("\r", regex=False).any()  # Python 3.11 does not quote it
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    table.to_csv(text, index=False, lineterminator="\n", quoting=quoting)
    content = text.getvalue().encode(errors="surrogateescape")  # names of files that are no text
    packed = len(table) > MOST_PLAIN
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
            head = _checked_head(json.loads(content.readline(MOST_HEAD)), path)
            how: dict[str, Any] = {"dtype": object, "na_filter": False, "lineterminator": "\n"}
            table = pd.read_csv(content, encoding_errors="surrogateescape", **how)
        return Manifest(**(_checked_rows(table, head) | head))
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError) as error:
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(text if str(path) in text else f"{path} is not a readable manifest: {text}") from None


def _checked_head(values: Any, path: Path) -> dict[str, Any]:
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in READ:
        raise ValueError(f"{path}: format_version={version!r}; this program reads version {FORMAT_VERSION}")
    read = {key: values[key] for key in HEAD}
    names = read["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in (*names, read["data"], read["rule"])):
        raise ValueError("class_names must be a list of texts, data and rule a text")
    if not isinstance(read["counts"], dict) or not isinstance(read["fingerprints"], dict):
        raise ValueError("counts and fingerprints must be objects")
    if read["counts"].keys() != read["fingerprints"].keys() or not read["counts"].keys() <= set(SPLITS):
        raise ValueError(f"counts and fingerprints must name the same of the splits {', '.join(SPLITS)}")
    ledger = values.get("ledger", {})  # of version 1
    inputs = values.get("inputs", {place: line["found"] for place, line in ledger.items()})
    if not all(isinstance(count, int) for count in inputs.values()):
        raise ValueError("inputs must be numbers")
    left_out = values.get("left_out", {})
    return read | {"class_names": tuple(names), "inputs": inputs, "seen": tuple(left_out)}


def _checked_rows(table: pd.DataFrame, head: dict[str, Any]) -> dict[str, Any]:
    """``frame`` and ``seen`` of a `Manifest`."""
    if [*table.columns[:5]] != COLUMNS:
        raise ValueError(f"its second line must begin with {','.join(COLUMNS)}")
    for path in table["path"]:
        check_path(path)
    broken = {*head.pop("seen")}  # of version 1, which has them in its first line
    if "why" not in table:
        table["why"] = np.where((table["split"] == UNUSED) & table["path"].isin(broken), BROKEN, "")
    seen, frame = table["path"][table["split"] == SEEN], table[table["split"] != SEEN].reset_index(drop=True)
    used = frame["split"] != UNUSED
    labels = pd.to_numeric(frame.loc[used, "label"])
    frame.loc[used, "label"], frame.loc[used, "bytes"] = labels, pd.to_numeric(frame.loc[used, "bytes"])
    bare = frame.loc[used, "split"] == UNLABELLED
    possible = labels.between(0, len(head["class_names"]) - 1).where(~bare, labels == MISSING)
    bad = ~possible | (frame.loc[used, "sha256"].str.len() != 64)
    if bad.any():
        raise ValueError(f"the row of {frame.loc[used, 'path'][bad].iloc[0]} is damaged")
    counts = frame["split"][used & (frame["split"] != UNLABELLED)].value_counts().to_dict()
    if (counts or head["data"] == OWN) and counts != head["counts"]:
        raise ValueError("its rows are not those that its first line counts")
    return {"frame": frame, "seen": tuple(seen)}


def check_path(path: str) -> None:
    """Raise ValueError for a path of a manifest that leads out of the data's folder, or is none.

    An absolute path is the user's own where a table lists it, see `require_inside`; no manifest is written
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

    ``inputs``: without added images, places that hold another number of inputs, in words.

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
    data: DataConfig | Data,
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
    if not manifest.listed:
        return Differences()
    data = open_data(data)
    rows = manifest.rows(*splits)
    missing, changed = compare(rows, data, progress)
    known = {*manifest.frame["path"]}
    added = tuple(path for path in _present(data) if path not in known)
    gone = rows[rows["path"].isin(missing)]
    renamed = _renamed(gone, added, data)
    new = {*renamed.values()}
    return Differences(
        tuple(path for path in missing if path not in renamed), changed, tuple(renamed.items()),
        tuple(path for path in added if path not in new), () if added else _recounted(manifest, data),
    )  # fmt: skip


def compare(
    rows: pd.DataFrame, data: Data, progress: Progress | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the rows whose images are missing, and of those that have been changed.

    Raises:
        FileNotFoundError: the folder is missing. ValueError: an image lies outside the data.
    """
    if data.kind.files and not data.folder.is_dir():
        raise FileNotFoundError(f"no folder {data.folder}")
    require_inside(rows, data)
    names = rows["path"].tolist()
    now = pd.Series(hashes_of(data.kind, names, progress), index=rows.index, dtype=object)
    changed = (now != "") & (now != rows["sha256"])
    if not data.kind.files:
        changed |= (now != "") & (_labels_now(names, data) != rows["label"].to_numpy())
    return tuple(rows["path"][now == ""]), tuple(rows["path"][changed])


def _labels_now(names: list[str], data: Data) -> Any:
    """(n,) the label that the data give each image now."""
    return data.division.frame.set_index("path")["label"].reindex(names).to_numpy()


def _present(data: Data) -> list[str]:
    """Names of all images that are there now; none where they cannot be listed."""
    try:
        frame = data.inputs.frame
    except ERRORS:
        return []
    return frame["path"][frame["why"] == ""].tolist()


def require_inside(rows: pd.DataFrame, data: Data) -> None:
    """Raise ValueError for rows with an absolute path, unless the table or the folders of the data list this file."""
    outside = [path for path in rows["path"] if PurePath(path).is_absolute()]
    if outside:
        listed = {*_present(data)}
        outside = [path for path in outside if path not in listed]
    if outside:
        raise ValueError(
            f"the manifest lists {len(outside):,} files outside {data.folder} ({few(outside)}), which "
            "neither a table nor folders of the run's data list; they are not opened. Images outside a table's folder "
            "are found only where they lay at the training"
        )


def _require_stored(rows: pd.DataFrame, data: Data) -> None:
    """Raise for images that are no files and are missing, or have another class now."""
    names, what = rows["path"].tolist(), data.config.name
    now = _labels_now(names, data)
    if lost := [name for name, label in zip(names, now, strict=True) if label != label]:
        raise FileNotFoundError(f"{len(lost):,} of {len(rows):,} images are not in {what} any more, first {lost[0]}")
    if bent := [name for name, label, was in zip(names, now, rows["label"], strict=True) if label != was]:
        raise ValueError(f"{len(bent):,} of {len(rows):,} images of {what} have another class now, first {bent[0]}")


def _recounted(manifest: Manifest, data: Data) -> tuple[str, ...]:
    """Places of the data that hold another number of inputs now."""
    try:
        now = data.division.frame["place"].value_counts()
    except ERRORS:
        return ()
    return tuple(
        f"inputs of {place}: {found:,} when it was trained, {now.get(place, 0):,} now"
        for place, found in manifest.inputs.items()
        if place != UNLABELLED and now.get(place, 0) != found
    )


def _renamed(missing: pd.DataFrame, added: Iterable[str], data: Data) -> dict[str, str]:
    """Old → new path of missing files whose bytes are found among the added ones."""
    if missing.empty or not data.kind.files:
        return {}
    sizes = {*missing["bytes"]}
    there = [path for path in added if (data.folder / path).stat().st_size in sizes]
    by_hash: dict[str, list[str]] = {}
    for path, digest in zip(there, hashes_of(data.kind, there), strict=True):
        by_hash.setdefault(digest, []).append(path)
    found = {}
    for path, digest in zip(missing["path"], missing["sha256"], strict=True):
        if candidates := by_hash.get(digest):
            found[path] = candidates.pop(0)
    return found

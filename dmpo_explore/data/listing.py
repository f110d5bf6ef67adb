"""A list of all files of the user's data: every image with its class and split, and the files that are not used.

In: a `DataConfig`. Out: `Listing`. `source` refuses data that cannot be trained on; here everything is listed, so that
a check can report all problems at once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from ..config import DataConfig
from .image_files import is_image_file
from .image_tables import TableFormat, read_columns
from .locations import DIRS, base_folder, is_own, is_table
from .reader_names import reader_name
from .splits import split_of


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


FORMAT, OUTSIDE = "of another format", "outside the class folders"
LINKED, CLOSED = "in linked folders, which are not followed", "in folders that cannot be listed"


def list_data(data: DataConfig) -> Listing:
    """List a folder, the folders of splits, or a table; empty if there is no such file or folder, or if timm reads it.

    Example:
        >>> list_data(DataConfig("nowhere")).images
        []
    """
    found = Listing([], [], [], [])
    if reader_name(data.name):
        return found
    table = Path(data.name).expanduser()
    dirs = {split: text for split, key in DIRS.items() if (text := getattr(data, key)) is not None}
    if dirs:
        for split, text in dirs.items():
            _list_classes(Path(text).expanduser(), split, found)
    elif is_table(data.name):
        _list_table(table, TableFormat.of(data), found)
    else:
        _list_classes(base_folder(data), "", found)
    return found


def data_stamp(data: DataConfig) -> str:
    """SHA-256 of names, sizes and times of change of all files of the user's data: equal while no file changes.

    Empty for known data sets, which are verified whenever they are read.

    Example:
        >>> data_stamp(DataConfig("digits"))
        ''
    """
    if not is_own(data):
        return ""
    found, digest = list_data(data), hashlib.sha256()
    more = [Path(text).expanduser() for text in (data.name, data.class_names) if text]
    if data.unlabelled:
        list_class(Path(data.unlabelled).expanduser(), "", found)
    more += _reader_files(data)
    for path in (*more, *(image.path for image in found.images), *found.unused):
        try:
            status = path.stat()
        except OSError:
            digest.update(f"{path} is not there\n".encode(errors="surrogateescape"))
        else:
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    for split, name in found.classes:
        digest.update(f"{split}/{name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _reader_files(data: DataConfig) -> list[Path]:
    """All files below the folder of timm's name of a data set."""
    found = reader_name(data.name)
    if found is None:
        return []
    folder = found.folder or (None if data.root is None else Path(data.root).expanduser())
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else []


def _list_table(path: Path, how: TableFormat, found: Listing) -> None:
    try:
        columns = read_columns(path, how)
    except (OSError, ValueError, ImportError):
        return  # opening it gives the reason
    splits = [split_of(text) or "" for text in columns.get("split", [""] * len(columns["path"]))]
    for name, label, split in zip(columns["path"], columns["label"], splits, strict=True):
        found.images.append(Listed(how.file(path, name), label, split))
    found.classes.extend(dict.fromkeys((image.split, image.label) for image in found.images))


def _list_classes(folder: Path, split: str, found: Listing) -> None:
    for entry in _entries(folder):
        if not entry.is_dir():
            found.unused.extend([entry] * is_image_file(entry))
            found.left_out.append((split, entry, OUTSIDE))
        elif not split and (named := split_of(entry.name)):
            _list_classes(entry, named, found)
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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []

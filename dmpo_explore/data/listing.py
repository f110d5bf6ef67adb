"""All that lies in folders: every image with its class and split, and the files that are not used, with the reason.

Data that cannot be trained on are refused where they are opened; here everything is listed, so that a check can report
all problems at once. Hidden files are no inputs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .image_files import is_image_file
from .splits import split_of

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
    for entry in _entries(folder):
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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


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

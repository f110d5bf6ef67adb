"""Hashes and lists of image files: the files in the folders of a run's data, and the SHA-256 of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..config import DataConfig
from ..utils.files import sha256
from ..utils.progress import Progress
from .image_files import images_in
from .image_tables import TableFormat, table_paths
from .locations import DIRS, base_folder, is_own, is_table
from .reader_names import reader_name


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


def relative_path(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``, or unchanged if it is outside."""
    full, base = os.path.abspath(path), os.path.abspath(folder)
    inside = full.startswith(os.path.join(base, ""))
    return Path(os.path.relpath(full, base) if inside else full).as_posix()


def listed_files(data: DataConfig) -> list[str]:
    """The image files of the user's data, as `relative_path`; none for known data sets and those of timm.

    They are the files in the data's folders, or those of the table. A missing or damaged table lists none.
    """
    if not is_own(data) or reader_name(data.name):
        return []
    folder, path = base_folder(data), Path(data.name).expanduser()
    if is_table(data.name):
        try:
            files = table_paths(path, TableFormat.of(data))
        except (OSError, ValueError, ImportError):
            return []
    else:
        dirs = [Path(text) for key in DIRS.values() if (text := getattr(data, key)) is not None] or [folder]
        files = [file for part in dirs for file in images_in(part)]
    return [relative_path(file, folder) for file in files]


def few(names: Sequence[str]) -> str:
    """The first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")

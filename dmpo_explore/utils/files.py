"""Atomic files and folders, JSON, SHA-256, and the cache folder.

A file or folder is written under a temporary name in the same folder, flushed to the disk and renamed, so that it is
whole or absent, also after a kill or a power cut. `replacing` describes how folders are replaced on each system.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from .disk import flush, flush_names, full_disk_named
from .reading import check_regular, read_text
from .replacing import replace_folder, staged


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces ``path`` on success and is removed on an error.

    Raises:
        OSError: as `require_file_place`. DiskFullError: the disk is full, with any library's error.
    """
    require_file_place(path)
    with full_disk_named(path), staged(path) as temporary, full_disk_named(path):
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # as the umask wants it, whatever a library writes
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        os.replace(temporary, path)
        flush_names(path.parent)


def require_file_place(path: Path) -> None:
    """Raise IsADirectoryError, or OSError at a pipe or device, before work is lost for a file that would replace it."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file")
    if path.exists() and (not path.is_file() or path.parent == Path("/dev")):  # /dev/stdout may lead to a file
        raise OSError(f"{path} is a pipe or a device, which a file would replace; name a file")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that replaces ``path`` on success and is removed on an error.

    Raises:
        DiskFullError: as in `atomic_file`.
    """
    with full_disk_named(path), staged(path) as temporary, full_disk_named(path):
        temporary.mkdir()
        yield temporary
        flush(temporary)
        replace_folder(temporary, path)
        flush_names(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all.

    Raises:
        ValueError: NaN or infinity, which are not JSON.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, too large or too deeply nested; the message names the file, line and column.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}, column {error.colno}): {error.msg}") from None
    except RecursionError:
        raise ValueError(f"{path} is not read: its JSON is nested too deeply") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"{path} is not read: {error}") from None


def sha256(path: Path) -> str:
    """SHA-256 of a regular file in hexadecimal digits, read in pieces; raises as `check_regular`."""
    check_regular(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sealed(folder: Path, facts: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values for a folder's file ``facts``, with the SHA-256 of all its other files."""
    return values | {"sha256": _sums(folder, facts)}


def sealed_again(folder: Path, values: dict[str, Any], *names: str) -> dict[str, Any]:
    """`sealed` values after files of these names have been written."""
    return values | {"sha256": values.get("sha256", {}) | {name: sha256(folder / name) for name in names}}


def unseal(folder: Path, facts: str) -> None:
    """Take the hashes out of a `sealed` file, before the others are changed."""
    values = read_json(folder / facts)
    write_json(folder / facts, {key: value for key, value in values.items() if key != "sha256"})


def is_whole(folder: Path, facts: str, made_from: dict[str, Any]) -> bool:
    """Whether a folder's file ``facts`` is `sealed`, names these JSON values, and all other files are unchanged."""
    try:
        found = read_json(folder / facts)
        same = found["made_from"] == json.loads(json.dumps(made_from))
        return bool(same and found["sha256"].items() <= _sums(folder, facts).items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _sums(folder: Path, facts: str) -> dict[str, str]:
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256(path) for name, path in names.items() if name != facts}


def expanded(text: str | Path) -> Path:
    """A path in which ``~`` is the home folder; ValueError where there is no such folder.

    Example:
        >>> expanded("photos/cats").as_posix()
        'photos/cats'
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{str(text)!r}: ~ names no home folder; write ./{text} if it is a file's name") from None


def cache_dir() -> Path:
    """Folder of downloads: ``DMPO_EXPLORE_CACHE`` where it is set, else the user's cache; it need not exist.

    Raises:
        OSError: the user has no home folder.
    """
    own = os.environ.get("DMPO_EXPLORE_CACHE", "").strip()
    try:
        return Path(own).expanduser() if own else Path(platformdirs.user_cache_dir("dmpo-explore", appauthor=False))
    except RuntimeError:
        raise OSError("no home folder for the cache: set DMPO_EXPLORE_CACHE to an absolute path of a folder") from None

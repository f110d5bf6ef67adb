"""The hidden folder of a recording that is not finished: its name, its files, and its removal after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..utils.files import read_json
from ..utils.replacing import remove

STATE, BATCHES, LOCK = "state.json", "batches.bin", ".lock"


def partial_folder(place: Path) -> Path:
    """The folder in which the record for ``place`` is written.

    Example:
        >>> partial_folder(Path("records/test")).name
        '.test.partial'
    """
    return place.with_name(f".{place.name}.partial")


def remove_partial(folder: Path) -> None:
    """Remove a partial folder, its state last, by which leftovers of a kill are recognised and removed later.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> remove_partial(folder)
        >>> folder.exists()
        False
    """
    for path in folder.iterdir():
        if path.name not in (STATE, LOCK):
            remove(path)
    shutil.rmtree(folder)


def clear_recorded(records: Path) -> None:
    """Remove the partial folders in ``records`` whose record is complete: leftovers of a kill in between."""
    for folder in records.glob(".*.partial"):
        place = records / folder.name.removeprefix(".").removesuffix(".partial")
        with suppress(OSError, ValueError, KeyError, TypeError, Timeout), FileLock(folder / LOCK, timeout=0):
            if read_json(folder / STATE)["created"] == read_json(place / "meta.json")["created"]:
                remove_partial(folder)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Context in which an error of the file system without a file's name, as of a full disk, names ``path``."""
    try:
        yield
    except OSError as error:
        if error.strerror is None or error.filename is not None:  # it has a message of its own, or none
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None

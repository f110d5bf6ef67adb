"""Disks: flushing of files, and the error of a full disk.

`flush` returns once a file or folder would survive a power cut, as far as the system's fsync goes (macOS's leaves the
drive's own cache out; Windows has none for folders). `full_disk_named` turns the different errors of libraries on a
full disk into a `DiskFullError`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_TEXT = re.compile(r"no space left|disk is full|storagefull|quota ?exceeded", re.IGNORECASE)
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EISDIR}
PROBE = 2**20  # bytes; a library that fails although so many still fit has another reason


class DiskFullError(OSError):
    """Not enough disk space for a file; the message names it and its disk.

    Example:
        >>> str(DiskFullError(Path("/runs/first/checkpoint.pt")))
        'the disk ... is full: /runs/first/checkpoint.pt was not written; make room and repeat the command'
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"the disk {_disk(path)} is full: {path} was not written; make room and repeat the command")
        self.errno, self.path = errno.ENOSPC, path


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Context in which any library's error of a full disk becomes a `DiskFullError` that names ``path``.

    Some libraries do not report why a write failed (torch: RuntimeError, numpy: OSError without a number). Then writing
    one more MiB beside ``path`` is tried, while the disk is still full.

    Example:
        >>> with full_disk_named(Path("a.csv")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        dmpo_explore.utils.disk.DiskFullError: the disk ... is full: a.csv was not written; ...
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) and error.path == path:
            raise
        unsaid = isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)
        if is_full_disk(error) or (unsaid and not _has_room(path.parent)):
            raise DiskFullError(path) from error
        raise


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that caused it, reports a full disk.

    Example:
        >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device")), is_full_disk(ValueError("no"))
        (True, False)
    """
    return full_disk_cause(error) is not None


def full_disk_cause(error: BaseException) -> BaseException | None:
    """The error itself, or the first that caused it, that reports a full disk; None if none does.

    Example:
        >>> try:
        ...     try:
        ...         raise OSError(errno.ENOSPC, "No space left on device")
        ...     except OSError:
        ...         raise RuntimeError("not written")
        ... except RuntimeError as error:
        ...     print(full_disk_cause(error))
        [Errno 28] No space left on device
    """
    full = (e for e in _causes(error) if getattr(e, "errno", None) in FULL or FULL_TEXT.search(str(e)))
    return next(full, None)


def flush(path: Path) -> None:
    """Flush a file, or a folder with its content, to the disk."""
    if not path.is_dir():
        _fsync(path, os.O_RDWR)  # Windows flushes what may be written only
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            flush(Path(folder, name))
        flush_names(Path(folder))


def flush_names(folder: Path) -> None:
    """Flush a folder's list of names to the disk after a rename; no effect where the system cannot."""
    if os.name == "nt":
        return
    try:
        _fsync(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _fsync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_error(folder: Path) -> OSError | None:
    """Why no file of 1 MiB can be written into a folder, or into its nearest existing parent; None if one can.

    Example:
        >>> write_error(Path(tempfile.mkdtemp()) / "new") is None
        True
    """
    return _probed(_existing(folder))


def require_free(folder: Path, needed: int, what: str) -> None:
    """Raise OSError (ENOSPC) unless ``needed`` bytes are free where ``folder`` is or will be; ``what`` needs them.

    Example:
        >>> require_free(Path(), 10**18, "a picture of everything")
        Traceback (most recent call last):
        OSError: ... a picture of everything needs about 1e+09 GB and ... GB are free; make room: ...
    """
    free = shutil.disk_usage(_existing(folder)).free
    if needed > free:
        sizes = f"{what} needs about {needed / 1e9:.2g} GB and {free / 1e9:.2g} GB are free; make room"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {sizes}", str(_existing(folder)))


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _has_room(folder: Path) -> bool:
    error = _probed(folder)
    return error is None or error.errno not in FULL


def _probed(folder: Path) -> OSError | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _disk(path: Path) -> Path:
    """The mount point of a path."""
    place = path.absolute()
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    return place

"""Folders replaced as a whole: never absent or mixed for a reader, without leftovers of a killed writer.

In: a finished folder under a temporary name beside its place. `replace_folder` puts it there.

- Linux (most file systems) and macOS (APFS) exchange two folders in one step: the place always holds the old or the
  new one, also after a kill.
- Elsewhere (Windows, NFS, FAT) the old folder is first renamed to ``.NAME.TOKEN.old``. Readers wait out the moment
  between (`settle`); after a kill in it, the next reader or writer puts the old folder back. Windows refuses to rename
  a folder of which a file is open, such as a record in use: then the old one is kept.

A writer holds the lock ``.NAME.TOKEN.lock`` as long as its ``.NAME.TOKEN.part`` exists; the system releases it when
the writer is killed. So `clear_leftovers` can distinguish leftovers from folders that are being written.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
WAIT = 2.0  # seconds for a writer between its two renames
UNKNOWN = 3600.0  # seconds after which a temporary file without a lock, as earlier versions wrote it, is left over
LEFTOVER = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.(?:part|old|lock)")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A free temporary name beside ``path``, locked while it is in use; anything there afterwards is removed.

    What killed writers of ``path`` left is removed before.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    lock = FileLock(temporary.with_suffix(".lock"))
    with suppress(NotImplementedError):  # a file system without locks
        lock.acquire()
    try:
        yield temporary
    finally:
        remove(temporary)
        lock.release()
        with suppress(OSError):
            temporary.with_suffix(".lock").unlink(missing_ok=True)


def replace_folder(temporary: Path, path: Path) -> None:
    """Put the folder ``temporary`` at ``path``; the folder that was there is removed afterwards.

    Raises:
        OSError: ``path`` stays as it was.
    """
    if not path.exists():
        os.replace(temporary, path)
        return
    if exchange(temporary, path):
        return  # the old folder is now the temporary one
    old = temporary.with_suffix(".old")
    try:
        os.replace(path, old)
        os.replace(temporary, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    remove(old)


def exchange(a: Path, b: Path) -> bool:
    """Let two folders change places in one step; False, without a change, if the system cannot."""
    import ctypes

    try:
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(system.renamex_np(os.fsencode(a), os.fsencode(b), 2) == 0)  # RENAME_SWAP
        here = -100  # AT_FDCWD
        return bool(system.renameat2(here, os.fsencode(a), here, os.fsencode(b), 2) == 0)  # RENAME_EXCHANGE
    except (AttributeError, OSError, TypeError):  # no such call, or no such library
        return False


def read_whole(path: Path, read: Callable[[Path], T]) -> T:
    """``read(path)`` of a folder that may be replaced meanwhile, repeated until it is of one version.

    Raises:
        OSError: it was replaced during every attempt; or as ``read``.
    """
    for _ in range(100):
        settle(path)
        before = _version(path)
        try:
            value = read(path)
        except (OSError, ValueError):
            if _is_still(path, before):
                raise
        else:
            if _version(path) == before:
                return value
    raise OSError(f"{path} was repeatedly replaced while it was read; try again later")


def _is_still(path: Path, version: tuple[int, ...] | None) -> bool:
    """Whether a folder has this version and is not being replaced; checked three times."""
    return all(_version(path) == version and path.name not in moved_aside(path.parent) for _ in range(3))


def settle(path: Path) -> None:
    """Return once ``path`` exists, if it is being replaced in two steps; restores the old folder after a kill."""
    end = time.monotonic() + WAIT
    while not path.exists() and path.name in moved_aside(path.parent) and time.monotonic() < end:
        clear_leftovers(path.parent)
        time.sleep(0.002)


def moved_aside(folder: Path) -> set[str]:
    """Names of what is being replaced in two steps, or was when its writer was killed."""
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    return {found["name"] for name in names if name.endswith(".old") and (found := LEFTOVER.fullmatch(name))}


def clear_leftovers(folder: Path, only: str | None = None) -> None:
    """Remove from ``folder`` what killed writers left, of a file or folder or of all; an old version whose place is
    empty is put back.

    Folders of running writers are kept. Errors are ignored, as without the right to write.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(f".{only}." if only else ".")]
    except OSError:
        return
    for stem, name in sorted({(Path(n).stem, m["name"]) for n in names if (m := LEFTOVER.fullmatch(n))}):
        if only in (None, name):
            with suppress(OSError, NotImplementedError):
                _clear(folder / f"{stem}.part", folder / name)


def remove(path: Path) -> None:
    """Remove a file, link or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_at_once(path: Path) -> None:
    """Remove a folder whose files belong together: a kill leaves all of it, or what `clear_leftovers` removes."""
    with staged(path) as gone, suppress(OSError):
        os.replace(path, gone)


def _clear(part: Path, path: Path) -> None:
    from filelock import FileLock, Timeout

    old, lock = part.with_suffix(".old"), part.with_suffix(".lock")
    if not lock.exists():  # from an earlier version
        written = max((place.lstat().st_ctime for place in (part, old) if os.path.lexists(place)), default=None)
        if written is None:
            return  # its writer has ended meanwhile
        longest = WAIT if old.exists() and not path.exists() else UNKNOWN
        if 0 <= time.time() - written < longest:  # negative: the clock was set back since
            return
    try:
        with FileLock(lock, timeout=0):
            if old.exists() and not path.exists():
                os.replace(old, path)
            clear_leftovers(part.parent, part.name)  # of a writer within the writer
            remove(part)
            remove(old)
            with suppress(OSError):  # while it is held: later it may be another's. Windows does it on release
                lock.unlink(missing_ok=True)
    except Timeout:
        return  # it is being written


def _version(path: Path) -> tuple[int, ...] | None:
    """Values that change when another folder is put here; the inode alone may be used again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

"""Files and folders written whole or not at all; flushing, the error of a full disk, JSON, SHA-256, the cache folder.

`flush` returns once a file or folder would survive a power cut, as far as the system's fsync goes (macOS's leaves the
drive's own cache out; Windows has none for folders). `full_disk_named` turns the different errors of libraries on a
full disk into a `DiskFullError`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import platformdirs

from .texts import check_regular, few, read_text

FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_TEXT = re.compile(r"no space left|disk is full|storagefull|quota ?exceeded", re.IGNORECASE)
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EISDIR}
LISTED = 20  # names in an error
PROBE = 2**20  # bytes; a library that fails although so many still fit has another reason


class DiskFullError(OSError):
    """Not enough disk space for a file; the message names it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the disk is full: {path} was not written; make room and repeat the command")
        self.errno, self.path = errno.ENOSPC, path


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Context in which any library's error of a full disk becomes a `DiskFullError` that names ``path``.

    Some libraries do not report why a write failed (torch: RuntimeError, numpy: OSError without a number). Then writing
    one more MiB beside ``path`` is tried, while the disk is still full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) and error.path == path:
            raise
        unsaid = isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)
        if full_disk_cause(error) or (unsaid and getattr(write_error(path.parent), "errno", None) in FULL):
            raise DiskFullError(path) from error
        raise


def full_disk_cause(error: BaseException) -> BaseException | None:
    """The error itself, or the first that caused it, that reports a full disk; None if none does."""
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
    """Why no file of 1 MiB can be written into a folder, or into its nearest existing parent; None if one can."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as stream:
            stream.write(bytes(PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    return None


def require_free(folder: Path, needed: int, what: str) -> None:
    """Raise OSError (ENOSPC) unless ``needed`` bytes are free where ``folder`` is or will be; ``what`` needs them."""
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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


# Atomic files and folders, JSON, SHA-256, and the cache folder.
#
# A file or folder is written under a temporary name in the same folder, flushed to the disk and renamed, so that it is
# whole or absent, also after a kill or a power cut.


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
        ValueError: not JSON, a key twice in one object, too large or too deeply nested; the message names the file.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}, column {error.colno}): {error.msg}") from None
    except RecursionError:
        raise ValueError(f"{path} is not read: its JSON is nested too deeply") from None
    except ValueError as error:  # a whole number of thousands of digits, or a key twice
        raise ValueError(f"{path} is not read: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:80]!r} is there twice")
    return found


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


# Paths that users name. What is there is replaced only if this tool demonstrably wrote all of it.


Foreign: TypeAlias = "Callable[[Path], Sequence[str] | None]"  # names of what is not ours; None: nothing there is


def require_ours(path: Path, what: str, foreign: Foreign, *, force: bool = True) -> None:
    """Raise FileExistsError unless ``path`` is new, empty, or written by this tool alone; the error lists what is not.

    The one rule for every path that a user names for what is written, asked before the work.

    Args:
        what: is written, such as ``a page``.
        foreign: names of what is there and was not written by this tool; None or an error where nothing of it was.
        force: what this tool wrote may be replaced.
    """
    if path.is_dir():
        clear_leftovers(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())) or (path.is_file() and not path.stat().st_size):
        return
    others = None
    with suppress(OSError, ValueError, LookupError, TypeError):
        others = foreign(path)
    if others is None:
        raise FileExistsError(f"{path} exists and is not {what}; it is not replaced: name another place")
    if others:
        raise FileExistsError(
            f"{path} holds more than {what} ({few(others, LISTED)}); it is not replaced: move these away"
        )
    if not force:
        raise FileExistsError(f"{path} exists; name another place, or replace it with --force (force=True)")


def foreign_files(folder: Path, is_own: Callable[[str], object], *needed: str) -> list[str] | None:
    """For `require_ours`: paths of files and links in a folder, at any depth, that ``is_own`` denies.

    None where one of ``needed`` is missing.
    """
    found = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    return sorted(name for name in found if not is_own(name)) if found.issuperset(needed) else None


def begins_with(line: str) -> Foreign:
    """For `require_ours`: ours is a file whose first line is this one; of a Parquet file the names of its columns."""

    def first_line(path: Path) -> str:
        if path.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_schema  # type: ignore[import-untyped, unused-ignore]

            return ",".join(read_schema(path).names)
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline(len(line) + 2).rstrip("\n")

    return lambda path: [] if path.is_file() and first_line(path) == line else None


def expanded(text: str | Path) -> Path:
    """A path in which ``~`` is the home folder; ValueError where there is no such folder."""
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


# Folders replaced as a whole: never absent or mixed for a reader, without leftovers of a killed writer.
#
# In: a finished folder under a temporary name beside its place. `replace_folder` puts it there.
#
# The old folder is first renamed to ``.NAME.TOKEN.old``. Readers wait out the moment between (`settle`); after a kill
# in it, the next reader or writer puts the old folder back. Windows refuses to rename a folder of which a file is open,
# such as a record in use: then the old one is kept.
#
# A writer holds the lock ``.NAME.TOKEN.lock`` as long as its ``.NAME.TOKEN.part`` exists; the system releases it when
# the writer is killed. So `clear_leftovers` can distinguish leftovers from folders that are being written.

T = TypeVar("T")
WAIT = 2.0  # seconds for a writer between its two renames
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
    old = temporary.with_suffix(".old")
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():  # it was interrupted
            os.replace(old, path)
    remove(old)


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
            # this version, checked three times, and not being replaced: then the error is its own
            if all(_version(path) == before and path.name not in moved_aside(path.parent) for _ in range(3)):
                raise
        else:
            if _version(path) == before:
                return value
    raise OSError(f"{path} was repeatedly replaced while it was read; try again later")


def settle(path: Path) -> None:
    """Return once ``path`` exists, if it is being replaced; restores the old folder after a kill."""
    end = time.monotonic() + WAIT
    while not path.exists() and path.name in moved_aside(path.parent) and time.monotonic() < end:
        clear_leftovers(path.parent)
        time.sleep(0.002)


def moved_aside(folder: Path) -> set[str]:
    """Names of what is being replaced, or was when its writer was killed."""
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

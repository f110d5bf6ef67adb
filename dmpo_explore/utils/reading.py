"""Reading of small text files that may be damaged: bounded in size, with errors that name the file.

In: the path of a regular file. Out: its text. A folder, a pipe or a device is refused before it is opened.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_TEXT = 2**23  # bytes: 8 MiB


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """The text of a UTF-8 file.

    Args:
        most: bytes; a larger file is refused unread.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: too large, no UTF-8, or no regular
            file. Each names the file.
    """
    check_regular(path)
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            content = b"" if size > most else stream.read(most + 1)
    except OSError as error:
        raise named(error, path) from None
    if max(size, len(content)) > most:
        raise ValueError(f"{path} has {size:,} bytes; a file of more than {most:,} is not read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def check_regular(path: Path) -> None:
    """Raise an error that names ``path`` unless it is a regular file: FileNotFoundError, another OSError, ValueError.

    Example:
        >>> check_regular(Path(os.devnull))
        Traceback (most recent call last):
        ...
        ValueError: /dev/null is not a regular file
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except OSError as error:
        raise named(error, path) from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is {'a folder, not a file' if stat.S_ISDIR(mode) else 'not a regular file'}")


def named(error: OSError, path: Path) -> OSError:
    """``error`` with the name of the file in it; too many open files are reported as such."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OSError(f"{path} cannot be opened: too many files are open; raise the limit with `ulimit -n`")
    return type(error)(f"{path} cannot be read: {error.strerror or error}")

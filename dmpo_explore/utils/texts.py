"""Texts: short ones for messages, values abbreviated, a message on one line; and text files, read with bounds."""

from __future__ import annotations

import errno
import os
import re
import reprlib
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

LONGEST = 80  # characters of a value
MESSAGE = 600  # characters of a message

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = LONGEST
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 20
_REPR.maxlevel = 3


def short(value: object) -> str:
    """``repr(value)`` in at most 80 characters, however large or deeply nested the value is."""
    text = _REPR.repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def abbreviated(name: str, longest: int = 40) -> str:
    """A name in at most ``longest`` characters: the end of a longer one is an ellipsis.

    Example:
        >>> abbreviated("ankle boot"), abbreviated("black-footed albatross", 12)
        ('ankle boot', 'black-foote…')
    """
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, three by default, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def is_text(value: str, most: int) -> bool:
    """Whether ``value`` has at most ``most`` characters and can be encoded (JSON may hold half a surrogate pair)."""
    return len(value) <= most and not any("\ud800" <= c <= "\udfff" for c in value)


def one_line(message: object, longest: int = MESSAGE) -> str:
    """A message on one line without control characters; the middle of a long one is left out."""
    try:
        text = str(message)
    except Exception:  # of an exception that a plug-in defines
        text = f"{type(message).__name__} has no text"
    text = " ".join(_cut(text, 10 * longest).split())
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return _cut(text, longest)


def _cut(text: str, longest: int) -> str:
    kept = longest - 3
    return text if len(text) <= longest else f"{text[: kept // 2]} … {text[len(text) - kept + kept // 2 :]}"


def data_name(data: str) -> str:
    """The name of the data; of a user's folder or file the last part of its path, also behind a reader's name."""
    own = re.match(r"(\w+/)?(/|[A-Za-z]:[/\\])", data)
    return re.split(r"[/\\]", data.rstrip("/\\"))[-1] if own else data


# Reading of small text files that may be damaged: bounded in size, with errors that name the file.
#
# In: the path of a regular file. Out: its text. A folder, a pipe or a device is refused before it is opened.

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
    """Raise FileNotFoundError, another OSError or ValueError that names ``path`` unless it is a regular file."""
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

"""Short texts for messages: values abbreviated, and a message on one line."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Sequence

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


def few(names: Sequence[str]) -> str:
    """The first three names and how many more there are.

    Example:
        >>> few(["cat", "dog", "owl", "elk"])
        'cat, dog, owl and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def is_text(value: str, most: int) -> bool:
    """Whether ``value`` has at most ``most`` characters and can be encoded (JSON may hold half a surrogate pair).

    Example:
        >>> is_text("ankle boot", 20), is_text("\\ud800", 20), is_text("x" * 21, 20)
        (True, False, False)
    """
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
    """The name of the data; of a folder or file of the user's the last part of its path, also behind a reader's name.

    Example:
        >>> data_name("fashion-mnist"), data_name("/home/me/pets"), data_name("C:\\\\pets\\\\list.csv")
        ('fashion-mnist', 'pets', 'list.csv')
        >>> data_name("wds//home/me/shards"), data_name("hfds/timm/mini-imagenet")
        ('shards', 'hfds/timm/mini-imagenet')
    """
    own = re.match(r"(\w+/)?(/|[A-Za-z]:[/\\])", data)
    return re.split(r"[/\\]", data.rstrip("/\\"))[-1] if own else data

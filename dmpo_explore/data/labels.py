"""Labels and columns as files give them, read strictly: one rule for tables, shards, score files and data sets.

A label is a whole number from 0, or the name of a class: a text that does not read as a number. Everything between,
such as 0.5, -1, ``1_0``, ``nan`` or True, is refused, because a guess would be a wrong class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.abbreviate import short

MISSING = -1  # label of an image that has none
WHOLE = re.compile(r"([0-9]{1,18})(?:\.0+)?")  # 18 digits fit into int64


def whole_number(value: Any) -> int | None:
    """A whole number from 0 that is given as a number, or as a text of the digits 0 to 9; None for anything else.

    Example:
        >>> [whole_number(value) for value in (3, 3.0, "3", 0.5, "1_0", -1, float("inf"), True)]
        [3, 3, 3, None, None, None, None, None]
    """
    if isinstance(value, str):
        return int(found[1]) if (found := WHOLE.fullmatch(value)) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return int(value) if 0 <= value < 10**18 and value == value // 1 else None


def is_name(value: Any) -> bool:
    """Whether a label is a text that can only be the name of a class.

    Example:
        >>> [is_name(text) for text in ("cat", "4 legs", "", "-1", "1e3", "Infinity")]
        [True, True, False, False, False, False]
    """
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value.replace("\u2212", "-"))  # the minus sign of typography
    except ValueError:
        return True
    return False


def wrong_label(labels: Iterable[Any]) -> int | None:
    """Position of the first label that is neither a whole number nor a name; None if all are.

    Example:
        >>> wrong_label(["0", "cat", "1_0"])
        2
    """
    seen = dict[tuple[type, Any], bool]()  # True, 1 and 1.0 are one key without their type
    for position, label in enumerate(labels):
        key = type(label), label if isinstance(label, str | int | float | np.generic) else None
        if key not in seen:
            seen[key] = whole_number(label) is not None or is_name(label)
        if not seen[key]:
            return position
    return None


def check_labels(labels: Sequence[Any], where: str, rows: str = "row") -> None:
    """Raise ValueError for the first label that is neither a whole number nor a name, and for one number in two forms.

    Args:
        where: of the labels, for the message. rows: the word for one of them there.

    Example:
        >>> check_labels(["0", "0.5"], "mine.csv")
        Traceback (most recent call last):
        ...
        ValueError: mine.csv, row 2: the label '0.5' is neither a whole number (0, 1, 2 …) nor a name; correct it
    """
    if (wrong := wrong_label(labels)) is not None:
        raise ValueError(f"{where}, {rows} {wrong + 1}: {refused(labels[wrong])}")
    written = dict[int, Any]()
    for label in dict.fromkeys(labels):
        number = whole_number(label)
        if number is not None and (first := written.setdefault(number, label)) != label:
            row = list(labels).index(label) + 1
            raise ValueError(f"{where}, {rows} {row}: the label {short(label)} is also written {short(first)}; use one")


def refused(label: Any) -> str:
    """What is wrong with a label that is neither a whole number nor a name, for a message.

    Example:
        >>> refused(True)
        'the label True is neither a whole number (0, 1, 2 …) nor a name; correct it'
    """
    value = label.item() if isinstance(label, np.generic) else label
    return f"the label {short(value)} is neither a whole number (0, 1, 2 …) nor a name; correct it"


def columns_by_name(heads: Sequence[Any], where: str) -> Mapping[str, int]:
    """Name of a column, in lower case → its position.

    Raises:
        ValueError: two columns of one name, or whose names differ in case or outer blanks alone.

    Example:
        >>> columns_by_name(["Path", " label"], "mine.csv")
        {'path': 0, 'label': 1}
    """
    found = dict[str, int]()
    for position, head in enumerate(heads):
        name = folded(head)
        if name and (first := found.setdefault(name, position)) != position:
            names = [short(str(heads[i])) for i in (first, position)]
            if names[0] == names[1]:
                raise ValueError(f"{where} has two columns {names[0]}; remove one")
            raise ValueError(f"{where} has the columns {names[0]} and {names[1]}; rename or remove one")
    return found


def folded(head: Any) -> str:
    """The name of a column as `columns_by_name` keeps it."""
    return str(head).strip().lower()

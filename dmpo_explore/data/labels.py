"""Labels, columns and class names as files give them, read strictly: one rule for tables, shards, scores and data sets.

A label is a whole number from 0, or the name of a class: a text that does not read as a number. Everything between,
such as 0.5, -1, ``1_0``, ``nan`` or True, is refused, because a guess would be a wrong class.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import expanded, read_json
from ..utils.texts import check_regular, short

MISSING = -1  # label of an image that has none
WHOLE = re.compile(r"([0-9]{1,18})(?:\.0+)?")  # 18 digits fit into int64


def whole_number(value: Any) -> int | None:
    """A whole number from 0 that is given as a number, or as a text of the digits 0 to 9; None for anything else."""
    if isinstance(value, str):
        return int(found[1]) if (found := WHOLE.fullmatch(value)) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return int(value) if 0 <= value < 10**18 and value == value // 1 else None


def is_name(value: Any) -> bool:
    """Whether a label is a text that can only be the name of a class."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        float(value.replace("\u2212", "-"))  # the minus sign of typography
    except ValueError:
        return True
    return False


def wrong_label(labels: Iterable[Any]) -> int | None:
    """Position of the first label that is neither a whole number nor a name; None if all are."""
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
    """What is wrong with a label that is neither a whole number nor a name, for a message."""
    value = label.item() if isinstance(label, np.generic) else label
    return f"the label {short(value)} is neither a whole number (0, 1, 2 …) nor a name; correct it"


def columns_by_name(heads: Sequence[Any], where: str) -> Mapping[str, int]:
    """Name of a column, in lower case → its position.

    Raises:
        ValueError: two columns of one name, or whose names differ in case or outer blanks alone.
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


def csv_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file, blank ones as empty lists; ValueError where it is none in UTF-8, or no regular file."""
    check_regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None


def read_class_names(path: str | Path) -> dict[str, str]:
    """Class folder → readable name, from a JSON object or a CSV file with two columns.

    Raises:
        FileNotFoundError: no such file. ValueError: it is neither.
    """
    path = expanded(path)
    if path.suffix.lower() == ".json":
        values = read_json(path)
        if isinstance(values, dict) and all(isinstance(value, str) for value in values.values()):
            return values
        raise ValueError(f"{path} must hold a JSON object of texts, class folder: readable name")
    rows = [row for row in csv_rows(path) if row]
    if bad := next((row for row in rows if len(row) != 2), None):
        raise ValueError(f"{path} must have two columns, class folder and readable name; not {','.join(bad)[:80]!r}")
    counts = Counter(name.strip() for name, _ in rows)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise ValueError(f"{path} gives class folder {twice!r} two names; remove one")
    return {name.strip(): readable.strip() for name, readable in rows}


def renamed(class_names: tuple[str, ...], readable: Mapping[str, str], path: str) -> tuple[str, ...]:
    """Readable names of classes; one that ``readable`` lacks keeps its own.

    Raises:
        ValueError: none of the classes is in it, or two classes would have the same name.
    """
    if not set(class_names) & set(readable):
        raise ValueError(f"{path} names none of the classes {', '.join(class_names[:10])}")
    names = tuple(readable.get(name, name) for name in class_names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} gives two classes the name {twice[0]!r}")
    return names

"""A CSV file of a model's scores → arrays: one row per image, columns as `score_files` describes them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..data.labels import columns_by_name, whole_number
from ..records.scores import SCORES, STORED
from ..utils.texts import one_line, short
from ..utils.typing import Array

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
LISTED = 12  # names that a message lists


def read_table(data: bytes, name: str) -> dict[str, Array]:
    """The columns of a CSV file: ``labels`` (B,), ``logits`` (B, K, C) or the four scores (B, K), and ``flops`` (K,).

    Raises:
        ValueError: no CSV file, or a column that is missing, there twice, or not of numbers; ``name`` is named.

    Example:
        >>> read_table(b"label,logit_1_0,logit_1_1\\n1,0.5,2\\n", "mine.csv")["logits"].tolist()
        [[[0.5, 2.0]]]
    """
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own errors too
        raise ValueError(f"{name} is not a readable CSV file in UTF-8: {one_line(error, 200)}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas then takes the first column for names of rows
        raise ValueError(f"{name} has rows with more entries than its {len(table.columns)} columns; name every column")
    heads = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])  # pandas renames doubles
    table.columns = [str(head).strip() for head in (heads if len(heads) == len(table.columns) else table.columns)]
    if "label" not in table.columns:
        raise ValueError(f"{name} has no column 'label' (it has {some(table.columns)}); add the true class of each row")
    columns_by_name([*table.columns], name)
    logits = [re.fullmatch(r"logit_(\d{1,9})_(\d{1,9})", column) for column in table.columns]
    if places := {(int(hit[1]), int(hit[2])) for hit in logits if hit}:
        exits, classes = _exits({k for k, _ in places}, "logit_0_0", name), range(max(c for _, c in places) + 1)
        _check_columns(table, (f"logit_{k}_{c}" for k in exits for c in classes), name)
        parts = [_numbers(table, [f"logit_{k}_{c}" for c in classes], name) for k in exits]
        found = {"labels": _names_or_numbers(table[["label"]])[:, 0], "logits": np.stack(parts, axis=1)}
        return found | _flops(table, exits, name)
    numbers = {int(hit[1]) for column in table.columns if (hit := re.fullmatch(r"prediction_(\d{1,9})", column))}
    if not numbers:
        raise ValueError(f"{name} has no column 'prediction_1' (it has {some(table.columns)}); exits count from 1")
    exits = _exits(numbers, "prediction_0", name)
    further = [score for score in SCORES if score not in STORED and f"{score}_1" in table.columns]
    scored = [*STORED, *further]
    _check_columns(table, (f"{score}_{k}" for score in scored for k in exits), name)
    answers = _names_or_numbers(table[["label", *(f"prediction_{k}" for k in exits)]])
    found = {"labels": answers[:, 0], "prediction": answers[:, 1:], **_flops(table, exits, name)}
    return found | {
        score: _numbers(table, [f"{score}_{k}" for k in exits], name) for score in scored if score != "prediction"
    }


def _flops(table: Any, exits: range, name: str) -> dict[str, Array]:
    """The columns ``flops_1`` to ``flops_K``, which say the same in every row; none without the first."""
    columns = [f"flops_{k}" for k in exits]
    if columns[0] not in table.columns:
        return {}
    _check_columns(table, columns, name)
    values = _numbers(table, columns, name)
    if (values != values[:1]).any():
        raise ValueError(f"{name}: flops_1 to {columns[-1]} differ from row to row; give each exit one number")
    return {"flops": values[:1].ravel()}


def _exits(numbers: set[int], zero: str, name: str) -> range:
    """The exits from 1 to the largest number; ValueError for an exit 0, whose column would be ``zero``."""
    if 0 in numbers:
        raise ValueError(f"{name} has a column of exit 0, such as {zero!r}; exits count from 1: rename its columns")
    return range(1, max(numbers) + 1)


def _check_columns(table: Any, columns: Iterable[str], name: str) -> None:
    there = set(table.columns)
    absent = next((column for column in columns if column not in there), None)
    if absent:
        raise ValueError(f"{name} has no column {absent!r} (it has {some(table.columns)}); add it")


def _numbers(table: Any, columns: Sequence[str], name: str) -> Array:
    """(B, n) float64 of these columns."""
    for column in columns:
        for row, text in enumerate(table[column]):
            if not NUMBER.fullmatch(text.strip()):
                raise ValueError(
                    f"{name}, row {row + 1}, column {column}: {short(text)} is not a number; write a number"
                )
    return np.asarray(table[list(columns)].to_numpy(), dtype=np.float64)


def _names_or_numbers(table: Any) -> Array:
    """(B, n) of these columns: numbers if every value of all of them is a whole number, else texts."""
    texts = [text.strip() for row in table.to_numpy().tolist() for text in row]
    numbers = [whole_number(text) for text in texts]
    return np.array(texts if None in numbers else numbers).reshape(table.shape)


def some(names: Any) -> str:
    """The first `LISTED` names, for a message.

    Example:
        >>> some(["cat", "dog"])
        'cat, dog'
    """
    listed = [short(str(name))[1:-1] for name in names]
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more or "nothing"

"""Tables of the user's images as a data source: a CSV or Parquet file with columns path, label[, split][, group].

In: the file; paths are relative to its folder, or absolute. Out: a `Source`. Images of one group stay in one split.
Also: the map from class names to readable ones.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.files import read_json
from ..utils.typing import Array, Ints
from .source import ImageFiles, Pool, Source
from .splits import SPLITS, cuts_calibration, divide, split_of

TABLES = (".csv", ".parquet")
COLUMNS = {"path", "label", "split", "group"}


def table_source(path: Path, seed: int, *, calibration: bool | None = False) -> Source:
    """A table of images as a `Source`; without a column ``split`` it is divided as an undivided folder is.

    Raises:
        ValueError: another table: a column or an entry is missing, a split is unknown, a path is listed twice, a
            class is not in train, or a group is in two splits.
        FileNotFoundError: no such table, or missing images.
        ImportError: a Parquet file without pyarrow installed.
    """
    columns = read_columns(path)
    files = [path.parent / name for name in columns["path"]]
    names, labels = _classes(columns["label"])
    groups = np.asarray(columns["group"]) if "group" in columns else None
    by_group = ", whole groups" if groups is not None else ""
    if "split" in columns:
        rows = _given_splits(path, columns["split"])
        rule = f"given in the table ({', '.join(rows)})"
        _check_splits(path, rows, names, labels, groups)
    else:
        calibrated = cuts_calibration(calibration, len(labels) // 10, labels, groups)
        rows = divide(labels, seed=seed, calibration=calibrated, class_names=names, groups=groups)
        shares = "60/10/10/20" if calibrated else "80/10/10"
        rule = f"{shares} % of every class into {', '.join(rows)}{by_group}, with seed {seed}"

    def read(split: str, root: Path | None) -> Pool:
        if split not in rows:
            raise FileNotFoundError(f"{path} has no images of the split {split!r} (it has {', '.join(rows)})")
        inside = [files[row] for row in rows[split]]
        if absent := [file for file in inside if not file.is_file()]:
            raise FileNotFoundError(f"{path}: {len(absent)} of its images are missing, first {absent[0]}")
        return Pool(ImageFiles(inside), labels[rows[split]], names, None if groups is None else groups[rows[split]])

    return Source(f"images of {path}", "yours", read, lambda root: path.parent, splits=tuple(rows), rule=rule,
                  grouped=groups is not None)  # fmt: skip


def table_paths(path: Path) -> list[Path]:
    """The image files that a table lists; raises as `table_source`."""
    return [path.parent / name for name in read_columns(path)["path"]]


def read_class_names(path: str | Path) -> dict[str, str]:
    """Class folder → readable name, from a JSON object or a CSV file with two columns.

    Raises:
        FileNotFoundError: no such file. ValueError: it is neither.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".json":
        values = read_json(path)
        if isinstance(values, dict) and all(isinstance(value, str) for value in values.values()):
            return values
        raise ValueError(f"{path} must hold a JSON object of texts, class folder: readable name")
    rows = [row for row in _csv_rows(path) if row]
    if bad := next((row for row in rows if len(row) != 2), None):
        raise ValueError(f"{path} must have two columns, class folder and readable name; not {','.join(bad)[:80]!r}")
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


def read_columns(path: Path) -> dict[str, list[str]]:
    if path.suffix.lower() == ".parquet":
        columns = _parquet_columns(path)
    else:
        rows = _csv_rows(path)
        heads = [name.strip().lower() for name in rows[0]] if rows else []
        uneven = next((i for i, row in enumerate(rows, start=1) if row and len(row) != len(heads)), None)
        if uneven:
            raise ValueError(f"{path}, line {uneven}: {len(rows[uneven - 1])} entries for {len(heads)} columns")
        filled = [row for row in rows[1:] if row]
        columns = {name: [row[i].strip() for row in filled] for i, name in enumerate(heads)}
    if absent := [name for name in ("path", "label") if name not in columns]:
        has = ", ".join(columns) or "none"
        raise ValueError(f"{path} has no column {absent[0]!r} (it has {has}); expected path, label[, split][, group]")
    if not columns["path"]:
        raise ValueError(f"{path} lists no images")
    for name in COLUMNS & columns.keys():
        if "" in columns[name]:
            raise ValueError(f"{path}: image {columns[name].index('') + 1} has no {name}")
    seen = dict[str, str]()  # file → as listed
    for name in columns["path"]:
        if (file := os.path.normpath(os.path.join(path.parent, name))) in seen:
            raise ValueError(f"{path} lists {name} twice" + (f", also as {seen[file]}" if seen[file] != name else ""))
        seen[file] = name
    return columns


def _csv_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None


def _parquet_columns(path: Path) -> dict[str, list[str]]:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise ImportError(f"{path} needs pyarrow: pip install pyarrow, or save the table as CSV") from None
    except Exception as error:  # pyarrow's errors are of many kinds
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None

    def text(value: Any) -> str:
        return "" if pd.isna(value) else str(value).strip()

    names = {str(name).strip().lower(): name for name in table.columns}
    return {known: [text(value) for value in table[name]] if known in COLUMNS else [] for known, name in names.items()}


def _classes(labels: list[str]) -> tuple[tuple[str, ...], Ints]:
    """Class names, sorted (numbers as numbers), and (n,) labels."""
    found = set(labels)
    names = sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found)
    number = {name: i for i, name in enumerate(names)}
    return tuple(names), np.asarray([number[label] for label in labels], dtype=np.int64)


def _given_splits(path: Path, entries: list[str]) -> dict[str, Ints]:
    known = {entry: split_of(entry) for entry in set(entries)}
    if unknown := sorted(entry for entry, split in known.items() if split is None):
        raise ValueError(f"{path}: {unknown[0]!r} is not a split; use {', '.join(SPLITS)}")
    splits = np.asarray([known[entry] for entry in entries])
    return {split: np.flatnonzero(splits == split) for split in SPLITS if (splits == split).any()}


def _check_splits(
    path: Path, rows: dict[str, Ints], names: tuple[str, ...], labels: Ints, groups: Array | None
) -> None:
    train = rows.get("train")
    if train is not None and (absent := sorted(set(range(len(names))) - set(labels[train].tolist()))):
        raise ValueError(f"{path}: no image of class {names[absent[0]]!r} is in train")
    if groups is None:
        return
    where: dict[Any, str] = {}
    for split, inside in rows.items():
        for group in np.unique(groups[inside]):
            if group in where:
                raise ValueError(f"{path}: group {group!s} is in {where[group]} and in {split}; a group must be in one")
            where[group] = split

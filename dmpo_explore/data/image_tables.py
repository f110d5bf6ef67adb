"""Tables of the user's images as a data source: a CSV or Parquet file with columns path, label[, split][, group].

In: the file; paths are relative to its folder, or absolute. A `TableFormat` gives other names of columns, an ending of
the paths and another folder. Out: a `Source`. Images of one group stay in one split. Also: the map from class names to
readable ones.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import DataConfig
from ..utils.files import read_json
from ..utils.reading import check_regular
from ..utils.typing import Array, Ints
from .labels import check_labels, columns_by_name, folded
from .source import ImageFiles, Pool, Source
from .splits import SPLITS, cuts_calibration, divide, split_of

TABLES = (".csv", ".parquet")
COLUMNS = ("path", "label", "split", "group")


class TableFormat(NamedTuple):
    """How a table lists its images: names of two columns, what its paths lack at the end, and the images' folder.

    Example:
        >>> TableFormat("id", "breed", ".jpg", "train").file(Path("dogs/labels.csv"), "0a1").as_posix()
        'dogs/train/0a1.jpg'
    """

    path_column: str = "path"
    label_column: str = "label"
    suffix: str = ""
    image_dir: str = ""

    @classmethod
    def of(cls, data: DataConfig) -> TableFormat:
        """The format that a run's `DataConfig` gives."""
        given = {name: value for name in cls._fields if (value := getattr(data, name)) is not None}
        return cls(**given)

    def file(self, table: Path, name: str) -> Path:
        """The image file of an entry."""
        return table.parent / Path(self.image_dir).expanduser() / f"{name}{self.suffix}"


PLAIN = TableFormat()


def table_source(path: Path, seed: int, *, calibration: bool | None = False, how: TableFormat = PLAIN) -> Source:
    """A table of images as a `Source`; without a column ``split`` it is divided as an undivided folder is.

    Raises:
        ValueError: another table: a column or an entry is missing, or there twice, a label is refused (`labels`), a
            split is unknown, a path is listed twice, a class is not in train, or a group is in two splits.
        FileNotFoundError: no such table, or missing images.
        ImportError: a Parquet file without pyarrow installed.
    """
    columns = read_columns(path, how)
    files = [how.file(path, name) for name in columns["path"]]
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
        if absent := [file for file in inside if not file.exists()]:
            raise FileNotFoundError(f"{path}: {len(absent)} of its images are missing, first {absent[0]}")
        return Pool(ImageFiles(inside), labels[rows[split]], names, None if groups is None else groups[rows[split]])

    return Source(f"images of {path}", "yours", read, lambda root: path.parent, splits=tuple(rows), rule=rule,
                  grouped=groups is not None)  # fmt: skip


def table_paths(path: Path, how: TableFormat = PLAIN) -> list[Path]:
    """The image files that a table lists; raises as `table_source`."""
    return [how.file(path, name) for name in read_columns(path, how)["path"]]


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


def read_columns(path: Path, how: TableFormat = PLAIN) -> dict[str, list[str]]:
    """The columns of `COLUMNS` that a table has, as texts; raises ValueError as `table_source`."""
    heads, columns = (_parquet_columns if path.suffix.lower() == ".parquet" else _csv_columns)(path)
    places = columns_by_name(heads, str(path))
    named = dict(zip(COLUMNS, (how.path_column, how.label_column, "split", "group"), strict=True))
    if absent := [name for name in (how.path_column, how.label_column) if folded(name) not in places]:
        has, wanted = ", ".join(places) or "none", f"{how.path_column}, {how.label_column}[, split][, group]"
        raise ValueError(
            f"{path} has no column {absent[0]!r} (it has {has}); expected {wanted}, "
            "or name them with --path-column and --label-column"
        )
    values = {name: columns[places[folded(head)]] for name, head in named.items() if folded(head) in places}
    if not len(values["path"]):
        raise ValueError(f"{path} lists no images")
    found = {name: ["" if value is None else str(value).strip() for value in column] for name, column in values.items()}
    for name, texts in found.items():
        if "" in texts:
            raise ValueError(f"{path}: image {texts.index('') + 1} has no {named[name]}")
    labels = [value.strip() if isinstance(value, str) else value for value in values["label"]]
    check_labels(labels, str(path))
    seen = dict[str, str]()  # file → as listed
    for name in found["path"]:
        if (file := os.path.normpath(how.file(path, name))) in seen:
            raise ValueError(f"{path} lists {name} twice" + (f", also as {seen[file]}" if seen[file] != name else ""))
        seen[file] = name
    return found


Columns = tuple[list[str], list[Any]]  # heads, and the entries of each column; None: missing


def _csv_columns(path: Path) -> Columns:
    rows = _csv_rows(path)
    heads = rows[0] if rows else []
    uneven = next((i for i, row in enumerate(rows, start=1) if row and len(row) != len(heads)), None)
    if uneven:
        raise ValueError(f"{path}, line {uneven}: {len(rows[uneven - 1])} entries for {len(heads)} columns")
    filled = [row for row in rows[1:] if row]
    return heads, [[row[i] for row in filled] for i in range(len(heads))]


def _csv_rows(path: Path) -> list[list[str]]:
    check_regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None


def _parquet_columns(path: Path) -> Columns:
    import pandas as pd

    check_regular(path)
    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise ImportError(f"{path} needs pyarrow: pip install pyarrow, or save the table as CSV") from None
    except Exception as error:  # pyarrow's errors are of many kinds
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None
    columns = [table.iloc[:, place] for place in range(table.shape[1])]
    return [*map(str, table.columns)], [column.astype(object).where(column.notna(), None) for column in columns]


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

"""Tables of the user's images: a CSV or Parquet file with columns path, label[, split][, group].

Paths are relative to the table's folder, or absolute. A `TableFormat` gives other names of columns, an ending of the
paths and another folder. Images of one group stay in one split. Without a column ``split`` a table is divided as an
undivided folder is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import TABLE_OPTIONS, DataConfig
from ..utils.files import expanded
from ..utils.texts import check_regular
from ..utils.typing import Array, Ints
from .image_data import ALL, ImageData, Listed, Listing, absolute, relative_path
from .image_set import ImageFiles, Pool
from .labels import check_labels, columns_by_name, csv_rows, folded
from .names import unknown_data
from .splits import SPLITS, cuts_calibration, divide, split_of

COLUMNS = ("path", "label", "split", "group")


class TableFormat(NamedTuple):
    """How a table lists its images: names of two columns, what its paths lack at the end, and the images' folder."""

    path_column: str = "path"
    label_column: str = "label"
    suffix: str = ""
    image_dir: str = ""

    def file(self, table: Path, name: str) -> Path:
        """The image file of an entry."""
        return table.parent / expanded(self.image_dir) / f"{name}{self.suffix}"


PLAIN = TableFormat()


class TableData(ImageData):
    """Images that a table lists.

    Opening raises ValueError for another table: a column or an entry is missing, or there twice, a label is refused
    (`labels`), a split is unknown, a path is listed twice, a class is not in train, or a group is in two splits;
    ImportError for a Parquet file without pyarrow installed; reading FileNotFoundError for missing images.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.path = expanded(config.name)
        given = {name: value for name in TABLE_OPTIONS if (value := getattr(config, name)) is not None}
        self.how = TableFormat(**given)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @cached_property
    def _columns(self) -> dict[str, list[str]]:
        if not self.path.exists():
            raise unknown_data(self.config.name)
        return read_columns(self.path, self.how)

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], Ints]:
        return _classes(self._columns["label"])

    @cached_property
    def _groups(self) -> Array | None:
        return np.asarray(self._columns["group"]) if "group" in self._columns else None

    @cached_property
    def _divided(self) -> tuple[dict[str, Ints], str]:
        """The rows of each split, and the rule."""
        (names, labels), groups, seed = self._classes, self._groups, self.config.seed
        if "split" in self._columns:
            named = [(entry, split_of(entry)) for entry in self._columns["split"]]
            if wrong := sorted(entry for entry, split in named if split is None):
                raise ValueError(f"{self.path}: {wrong[0]!r} is not a split; use {', '.join(SPLITS)}")
            splits = np.asarray([split for _, split in named])
            rows = {split: np.flatnonzero(splits == split) for split in SPLITS if (splits == split).any()}
            _check_splits(self.path, rows, names, labels, groups)
            return rows, f"given in the table ({', '.join(rows)})"
        calibrated = cuts_calibration(self.config.calibration, len(labels) // 10, labels, groups)
        rows = divide(labels, seed=seed, calibration=calibrated, class_names=names, groups=groups)
        shares, whole = "60/10/10/20" if calibrated else "80/10/10", ", whole groups" * (groups is not None)
        return rows, f"{shares} % of every class into {', '.join(rows)}{whole}, with seed {seed}"

    @property
    def grouped(self) -> bool:
        return self._groups is not None

    @property
    def given(self) -> tuple[str, ...]:
        return tuple(self._divided[0])

    @property
    def given_rule(self) -> str:
        return self._divided[1]

    def read(self, split: str) -> Pool:
        rows = self._divided[0].get(split)
        if rows is None:
            raise FileNotFoundError(
                f"{self.path} has no images of the split {split!r} (it has {', '.join(self.given)})"
            )
        (names, labels), groups = self._classes, self._groups
        inside = [self.how.file(self.path, self._columns["path"][row]) for row in rows]
        if absent := [file for file in inside if not file.exists()]:
            raise FileNotFoundError(f"{self.path}: {len(absent)} of its images are missing, first {absent[0]}")
        return Pool(ImageFiles(inside), labels[rows], names, None if groups is None else groups[rows])

    def fetch(self) -> Path:
        """The table's folder; there is nothing to download."""
        _ = self._columns
        return self.folder

    def located(self) -> DataConfig:
        found = super().located()
        return replace(found, name=str(_in_place(self.path))) if self.path.exists() else found

    def moved(self, place: str | Path) -> DataConfig:
        new = _in_place(Path(place))
        if not new.exists():
            raise FileNotFoundError(f"no folder {new}")
        return replace(self.config, name=str(new / self.path.name if new.is_dir() else new))

    def listing(self) -> Listing:
        found = Listing([], [], [], [])
        try:
            columns = self._columns
        except (OSError, ValueError, ImportError):
            return found  # opening it gives the reason
        splits = [split_of(text) or "" for text in columns.get("split", [""] * len(columns["path"]))]
        for name, label, split in zip(columns["path"], columns["label"], splits, strict=True):
            found.images.append(Listed(self.how.file(self.path, name), label, split))
        found.classes.extend(dict.fromkeys((image.split, image.label) for image in found.images))
        return found

    def names(self) -> list[str]:
        return [relative_path(image.path, self.folder) for image in self.listing().images]

    def inputs(self, listing: Listing) -> Mapping[str, int]:
        return Counter(image.split or ALL for image in listing.images)


def _in_place(path: Path) -> Path:
    """An absolute path in a folder without links. The table itself may be one: its images lie beside the link."""
    return absolute(path.parent) / path.name


def refuse_table_options(config: DataConfig) -> None:
    """Raise ValueError for an option of tables beside other data."""
    if named := [name for name in TABLE_OPTIONS if getattr(config, name) is not None]:
        flag = named[0].replace("_", "-")
        raise ValueError(
            f"{named[0]}={getattr(config, named[0])!r} (--{flag}) is of a table of images; leave it out here"
        )


def read_columns(path: Path, how: TableFormat = PLAIN) -> dict[str, list[str]]:
    """The columns of `COLUMNS` that a table has, as texts; raises ValueError as `TableData`."""
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
    rows = csv_rows(path)
    heads = rows[0] if rows else []
    uneven = next((i for i, row in enumerate(rows, start=1) if row and len(row) != len(heads)), None)
    if uneven:
        raise ValueError(f"{path}, line {uneven}: {len(rows[uneven - 1])} entries for {len(heads)} columns")
    filled = [row for row in rows[1:] if row]
    return heads, [[row[i] for row in filled] for i in range(len(heads))]


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

"""Tables of the user's images: a CSV or Parquet file, or one of JSON lines, with columns path, label[, split][, group].

Paths are relative to the table's folder, or absolute. A `TableFormat` gives other names of columns, an ending of the
paths and another folder. Images of one group stay in one split. Without a column ``split`` a table is divided as an
undivided folder is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..config import TABLE_OPTIONS, DataConfig
from ..utils.files import expanded
from ..utils.texts import check_regular, read_text
from .kinds import Inputs, Kind, absolute, frame_of, relative_path
from .labels import check_labels, columns_by_name, csv_rows, folded
from .names import is_table, unknown_data
from .splits import SPLITS, split_of

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


class TableKind(Kind):
    """Images that a table lists.

    Opening raises ValueError for another table: a column or an entry is missing, or there twice, a label is refused
    (`labels`), a split is unknown, or a path is listed twice; ImportError for a Parquet file without pyarrow installed.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.path = expanded(config.name)
        given = {name: value for name in TABLE_OPTIONS if (value := getattr(config, name)) is not None}
        self.how = TableFormat(**given)

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        return is_table(config.name)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def inputs(self) -> Inputs:
        if not self.path.exists():
            raise unknown_data(self.config.name)
        columns = read_columns(self.path, self.how)
        files = (self.how.file(self.path, name) for name in columns.pop("path"))
        columns["path"] = [relative_path(file, self.folder) for file in files]
        wanted = columns.get("split", [""] * len(columns["path"]))
        columns["split"] = [split_of(text) or "" for text in wanted]
        if wrong := sorted(text for text, split in zip(wanted, columns["split"], strict=True) if text and not split):
            raise ValueError(f"{self.path}: {wrong[0]!r} is not a split; use {', '.join(SPLITS)}")
        frame = frame_of([*zip(*columns.values(), strict=True)], [*columns]).assign(why="")
        there = {*columns["split"]}
        return Inputs(frame, rule=f"given in the table ({', '.join(split for split in SPLITS if split in there)})")

    def sources(self) -> Sequence[Path]:
        return [self.path]

    def located(self) -> DataConfig:
        found = super().located()
        return replace(found, name=str(_in_place(self.path))) if self.path.exists() else found

    def moved(self, place: str | Path) -> DataConfig:
        new = _in_place(Path(place))
        if not new.exists():
            raise FileNotFoundError(f"no folder {new}")
        return replace(self.config, name=str(new / self.path.name if new.is_dir() else new))


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
    heads, columns = (_csv_columns if path.suffix.lower() == ".csv" else _frame_columns)(path)
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


def _frame_columns(path: Path) -> Columns:
    lines = path.suffix.lower() == ".jsonl"
    check_regular(path)
    try:
        table = _json_lines(path) if lines else pd.read_parquet(path)
    except ImportError:
        raise ImportError(f"{path} needs pyarrow: pip install pyarrow, or save the table as CSV") from None
    except Exception as error:  # pyarrow's errors are of many kinds
        raise ValueError(f"{path} is not a readable file of {'JSON lines' if lines else 'Parquet'}: {error}") from None
    columns = [table.iloc[:, place] for place in range(table.shape[1])]
    return [*map(str, table.columns)], [column.astype(object).where(column.notna(), None) for column in columns]


def _json_lines(path: Path) -> pd.DataFrame:
    """A row a line; values stay as they are written."""
    return pd.DataFrame([json.loads(line) for line in read_text(path).split("\n") if line.strip()], dtype=object)

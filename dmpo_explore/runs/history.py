"""Epochs of a run: the rows of its history.csv, and how many are finished; no torch.

A training continues from ``checkpoint.pt``; it is written first, then the files made from it, history.csv last.
An epoch counts once it is in both: then all of its files are on disk.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.texts import one_line, read_text, short

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = "checkpoint.pt"
MOST_COLUMNS = 10_000
KINDS = ("lambda", "loss", "accuracy")  # of columns that every exit has


def read_history(path: Path) -> pd.DataFrame:
    """The table in history.csv: ``epoch`` in whole rising numbers, the rest numbers, the same for every exit.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: no such table. Each names the file.
    """
    import pandas as pd

    text = read_text(path)
    no_table = f"{path} is not a table of epochs"
    if text.partition("\n")[0].count(",") >= MOST_COLUMNS:
        raise ValueError(f"{no_table}: it has more than {MOST_COLUMNS:,} columns")
    try:
        table = pd.read_csv(io.StringIO(text), low_memory=False)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{no_table}: {one_line(error, 200)}") from None
    if "epoch" not in table:
        raise ValueError(f"{no_table}: it has no column 'epoch'")
    if words := list(table.columns.difference(table.select_dtypes("number").columns)):
        raise ValueError(f"{no_table}: columns that are not numbers: {short(words)}")
    if lacking := _lacking(list(map(str, table.columns))):
        raise ValueError(f"{no_table}: it lacks {short(lacking)}")
    epoch = table["epoch"]
    if not ((epoch >= 1) & (epoch % 1 == 0) & (epoch < 1e9)).all() or not (epoch.diff().iloc[1:] > 0).all():
        raise ValueError(f"{no_table}: 'epoch' must be whole rising numbers from 1, not {short(epoch.tolist())}")
    return table


def _lacking(columns: list[str]) -> list[str]:
    """Columns that are missing where some exit has others: lambda_k, loss_k and accuracy_k come together, with area."""
    exits = {k for column in columns for kind, _, k in [column.partition("_")] if kind in KINDS and k.isdecimal()}
    needed = [f"{kind}_{k}" for kind in KINDS for k in sorted(exits)] + ["area"] * bool(exits)
    return [column for column in needed if column not in columns]


def finished_epochs(folder: Path) -> int:
    """Number of complete epochs in a run folder; by the history alone if there is no readable checkpoint."""
    try:
        rows = len(read_history(folder / "history.csv"))
    except (OSError, ValueError):
        rows = 0
    saved = checkpoint_epoch(folder / CHECKPOINT)
    return rows if saved is None else min(rows, saved)


def checkpoint_epoch(path: Path) -> int | None:
    """The epoch after which a checkpoint was saved; None if there is none or it cannot be read.

    Nothing is unpickled: it is the number after the first name ``epoch`` in the list of the file's pickle operations.
    """
    named = False
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(member) as stream:
                for operation, value, _ in pickletools.genops(stream):
                    if named and operation.name in ("BININT", "BININT1", "BININT2"):
                        return int(str(value))
                    if operation.name not in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):  # which follow every text
                        named = value == "epoch"
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return None
    return None

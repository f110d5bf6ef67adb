"""Reading of a run's history.csv: one row of numbers per epoch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.abbreviate import one_line, short
from ..utils.reading import read_text

if TYPE_CHECKING:
    import pandas as pd

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

"""Output files of benchmarks: ``benchmarks/results/NAME.csv``, and parts of pages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dmpo_explore.utils.files import atomic_file

RESULTS = Path(__file__).parents[1] / "results"


def write_table(name: str, table: pd.DataFrame, folder: Path = RESULTS) -> Path:
    """The table as CSV, six digits, whole or not at all."""
    path = folder / f"{name}.csv"
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return path


def with_part(page: str, name: str, text: str) -> str:
    """`between` for the lines ``<!-- name -->`` and ``<!-- end of name -->``."""
    return between(page, f"<!-- {name} -->", f"<!-- end of {name} -->", text)


def between(page: str, begin: str, end: str, text: str) -> str:
    """A page with its part between two lines made anew; ValueError without them."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no part between {begin} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"

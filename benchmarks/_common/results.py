"""Output files of benchmarks: ``benchmarks/results/NAME.csv``, and parts of ``EVIDENCE.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dmpo_explore.utils.files import atomic_file, write_text

RESULTS = Path(__file__).parents[1] / "results"
PAGE = RESULTS.parent / "EVIDENCE.md"


def write_table(name: str, table: pd.DataFrame, folder: Path = RESULTS) -> Path:
    """The table as CSV, six digits, whole or not at all."""
    path = folder / f"{name}.csv"
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return path


def renew(page: Path, name: str, text: str) -> None:
    """Make the part of a page between ``<!-- name -->`` and ``<!-- end of name -->`` anew; ValueError without it."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no part between {begin.strip()} and {end}")
    write_text(page, f"{before}{begin}{text}\n{end}{after}")

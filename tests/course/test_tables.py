"""The study's tables in the package are those of benchmarks/results, and small."""

from __future__ import annotations

import pytest

from dmpo_explore.course.tables import FOLDER, study_table
from tables import TABLES


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_copy_is_what_the_results_hold(name: str) -> None:
    text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    assert text == TABLES[name](), "run python notebooks/tables.py"
    assert len(text) < 50_000


def test_every_table_is_written_and_read() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(TABLES)
    assert study_table("claims")["seeds"].map(type).eq(str).all()  # "+0.50 +0.10", or a single "+1.10"


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(ValueError, match="no table 'nonsense'. Valid: claims, last-exit"):
        study_table("nonsense")

"""The study's tables that lessons read: copies of those in ``benchmarks/results``.

In: a table's name. Out: a `pandas.DataFrame`. ``notebooks/tables.py`` writes the copies, a test compares them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "study"


def study_table(name: str) -> pd.DataFrame:
    """A table of the study's results.

    Args:
        name: ``claims`` (differences of accuracy that the second edition claims, by data set) or ``last-exit`` (on
            photographs: the last exit of naive exits and of DMPO against a net that has no other).

    Raises:
        ValueError: no such table; the tables are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> sorted(dx.course.study_table("claims")["study"].unique())
        ['caltech', 'fashion', 'fashion-cnn']
    """
    names = sorted(path.stem for path in FOLDER.glob("*.csv"))
    if name not in names:
        raise ValueError(f"no table {name!r}. Valid: {', '.join(names)}")
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"seeds": str})

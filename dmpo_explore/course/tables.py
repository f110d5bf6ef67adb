"""The study's tables that lessons read: copies of those in ``benchmarks/results``, by ``notebooks/tables.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "study"


def study_table(name: str) -> pd.DataFrame:
    """Differences of accuracy over images and trainings, a row each.

    Args:
        name: ``claims`` (those that the second edition claims, by data set) or ``last-exit`` (on photographs: the last
            exit of naive exits and of DMPO against a net that has no other).

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

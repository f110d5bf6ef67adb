"""The study's tables that notebooks and app read: copies of those in ``benchmarks/results``.

In: a table's name. Out: a `pandas.DataFrame`. ``notebooks/tables.py`` writes the copies, a test compares them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "study"


def study_table(name: str) -> pd.DataFrame:
    """A table of the study's results.

    Args:
        name: ``claims`` (differences of accuracy that the second edition claims, by data set), ``evidence`` (similarity
            and probes of the arms' early stages, by seed), ``gains`` (differences of accuracy between arms of the first
            edition), ``gradients`` (agreement of the exits' gradients after every epoch, by arm and
            seed), ``static`` (``dmpo`` against shorter nets with its head, two seeds), ``photos-pixels`` (exits on
            photographs against a ridge classifier on their pixels, one seed, on val). Of the small CNN, five seeds
            each: ``small-cnn`` (accuracies by number of exits, factor and epochs), ``schedules`` (by schedule and
            optimiser), ``schedule-gains`` (differences between these), ``equal-compute`` (the whole method, naive
            exits and static nets at equal compute).

    Raises:
        ValueError: no such table; the tables are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> gradients = dx.course.study_table("gradients")
        >>> sorted(gradients["arm"].unique())
        ['dmpo', 'dmpo-no-bypass', 'dmpo-uniform', 'naive-both']
    """
    names = sorted(path.stem for path in FOLDER.glob("*.csv"))
    if name not in names:
        raise ValueError(f"no table {name!r}. Valid: {', '.join(names)}")
    differences = name in ("claims", "gains", "last-exit", "photos-pixels", "schedule-gains", "static")
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"seeds": str} if differences else None)

"""Trials of commands that are killed (`repeated`) and of odd events (`odd`), a row for each, and their summary."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from . import odd, repeated

ENDINGS = ("clean", "clear error", "traceback", "silent wrong", "lost", "hang")
BAD = ENDINGS[2:]
ROWS = ["kind", "seed", "number", "ending", "words"]
KINDS = (*repeated.KINDS, *odd.KINDS)


def run(names: Sequence[str], number: int, seed: int, rows: Path) -> pd.DataFrame:
    """Add trials to the file ``rows`` until it has ``number`` of every kind with this seed; all that it holds then."""
    if not rows.exists():
        rows.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns=ROWS).to_csv(rows, index=False)
    done = pd.read_csv(rows)
    done = {(row.kind, row.number) for row in done[done["seed"] == seed].itertuples()}
    made: dict[Any, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            kind = repeated.Trials if name in repeated.KINDS else odd.Trials
            for trial in range(number):
                if (name, trial) not in done:
                    if kind not in made:
                        made[kind] = kind(Path(tempfile.mkdtemp(dir=folder)))
                    values = [name, seed, trial, *made[kind].trial(name, seed, trial)]
                    print(", ".join(map(str, values)), file=sys.stderr, flush=True)
                    pd.DataFrame([values], columns=ROWS).to_csv(rows, mode="a", header=False, index=False)
    return pd.read_csv(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per kind: its trials, how many ended how, and the seeds."""
    counts = pd.crosstab(rows["kind"], rows["ending"]).reindex(columns=list(ENDINGS), fill_value=0)
    counts = counts.reindex([name for name in KINDS if name in counts.index])
    counts.insert(0, "trials", counts.sum(axis=1))
    counts["seeds"] = rows.groupby("kind")["seed"].unique().map(lambda seeds: " ".join(map(str, sorted(seeds))))
    return counts.reset_index()


def all_well(table: pd.DataFrame) -> bool:
    """Whether every command that was given again ended clean, and nothing else was worse than a clear error."""
    commands = table[table["kind"].isin(list(repeated.KINDS))]
    return not table[list(BAD)].to_numpy().any() and not commands["clear error"].any()

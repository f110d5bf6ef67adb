"""Who is ahead of whom, by how much and how surely: paired comparisons on the same images, seed by seed.

In: what `_study_tables` reads. Out: tables with points of test accuracy and 95 % intervals. Which comparisons are made,
and when one holds, was fixed before the runs (`grids`); nothing here chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from _study.grids import BUDGETS, ENTERS, GRIDS, SEEDS, SPLITS
from _study.tables import Rights, cannot_meet, kept, rights, strongest_naive, tables

RESAMPLES = 2000
PARTS = {  # of DMPO: what is taken away → arm without it
    "bypass": "dmpo-no-bypass",
    "second-order predictors": "dmpo-no-second-order",
    "two-phase loss weights": "dmpo-uniform",
}
CLAIMS = ("core", "headline", "improved", "shipped", "gpu", "cnn")  # grids that have naive arms and the single model
RESULT = ["points", "low", "high", "seeds", "holds"]
AGAINST = {  # column of `contrasts` → an arm's number, whose (None: the strongest naive arm's), and which
    "score, against NAIVE": ("score", None, "score"),
    "first exit, against NAIVE": ("first exit", None, "first exit"),
    "at most 30 %, against NAIVE": ("30 %", None, "30 %"),
    "at most 30 %, against single": ("30 %", "single", "last exit"),
    "at most 50 %, against single": ("50 %", "single", "last exit"),
    "at most 100 %, against single": ("100 %", "single", "last exit"),
    "last exit, against single": ("last exit", "single", "last exit"),
}


@dataclass(frozen=True)
class Question:
    """Is ``number`` of ``arm`` above ``other_number`` of ``other``, an arm of the same grid or of ``home``?

    ``kind``: ``part``, ``claim`` (what the verdict says of a grid) or ``beside``.
    """

    kind: str
    text: str
    arm: str
    number: str
    other: str
    other_number: str
    home: str | None = None


def paired(a: Rights, b: Rights) -> dict[str, Any] | None:
    """Points that a is above b over the seeds of both; None if they share none.

    Returns:
        ``points`` (mean over seeds), ``low`` and ``high`` (95 % bootstrap over images), ``seeds`` (each seed's), and
        ``holds``: ``yes`` or ``opposite`` where the interval and every seed lie on one side of 0, else ``no``; ``open``
        while a seed is missing.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    differences = 100 * np.stack([a[seed] - b[seed] for seed in shared])  # (S, B)
    by_seed, image = differences.mean(axis=1), differences.mean(axis=0)
    draw = np.random.default_rng(0)
    means = [image[draw.integers(image.size, size=image.size)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    holds = _holds(by_seed, low, high) if len(shared) == len(SEEDS) else "open"
    seeds = " ".join(f"{value:+.2f}" for value in by_seed)
    return {"points": by_seed.mean(), "low": low, "high": high, "seeds": seeds, "holds": holds}


def _holds(by_seed: npt.NDArray[Any], low: float, high: float) -> str:
    if low > 0 and (by_seed > 0).all():
        return "yes"
    return "opposite" if high < 0 and (by_seed < 0).all() else "no"


def questions(grid: str, naive: str | None) -> Iterator[Question]:
    """What is asked of a grid. ``naive``: its `strongest_naive`."""
    if "test" not in SPLITS[grid]:
        return  # see `choices`
    if grid == "static":
        for arm in GRIDS[grid]:
            yield Question("beside", f"{arm} against dmpo, 30 % allowed", arm, "last exit", "dmpo", "30 %", "core")
        return
    if grid not in CLAIMS:
        for arm in GRIDS[grid]:
            yield Question("beside", f"{arm} against dmpo", arm, "score", "dmpo", "score", "core")
        return
    if grid == "core":
        for part, without in PARTS.items():
            yield Question("part", f"gain of {part}", "dmpo", "score", without, "score")
            for number in ("first exit", "30 %", "last exit"):
                where = f"{number} allowed" if "%" in number else number
                yield Question("beside", f"gain of {part}, {where}", "dmpo", number, without, number)
    if naive is not None:
        yield Question("claim", f"score against the strongest naive arm ({naive})", "dmpo", "score", naive, "score")
        yield Question("claim", "first exit against that arm's", "dmpo", "first exit", naive, "first exit")
    allowed = "of the compute allowed, against the full single model"
    yield Question("claim", f"30 % {allowed}", "dmpo", "30 %", "single", "last exit")
    yield Question("beside", f"50 % {allowed}", "dmpo", "50 %", "single", "last exit")
    yield Question("claim", "last exit against the single model", "dmpo", "last exit", "single", "last exit")
    if grid == "core":
        for arm in ("naive-equilibrium", "mixed"):
            if arm != naive:
                yield Question("beside", f"score against {arm}", "dmpo", "score", arm, "score")


def all_gains(folder: Path) -> pd.DataFrame:
    """Every question that runs are there for."""
    rows = []
    for grid, table in tables(folder).items():
        for ask in questions(grid, strongest_naive(grid, table)):
            ours = rights(folder, grid, ask.arm, ask.number)
            if found := paired(ours, rights(folder, ask.home or grid, ask.other, ask.other_number)):
                names = {"grid": grid, "kind": ask.kind, "question": ask.text}
                sides = {"a": f"{ask.arm}, {ask.number}", "b": f"{ask.other}, {ask.other_number}"}
                rows.append(names | sides | found)
    return pd.DataFrame(rows, columns=["grid", "kind", "question", "a", "b", *RESULT])


def contrasts(folder: Path) -> pd.DataFrame:
    """Every arm against the strongest naive arm and against the single model, a row per number of `AGAINST`."""
    rows = []
    for grid, table in tables(folder).items():
        if grid not in CLAIMS:
            continue
        naive = strongest_naive(grid, table)
        for arm in GRIDS[grid]:
            for title, (what, other, which) in AGAINST.items():
                other = other or naive
                alone = what == "first exit" and GRIDS[grid][arm].model.exits == 1
                if other is None or alone or (arm, what) == (other, which):
                    continue
                if found := paired(rights(folder, grid, arm, what), rights(folder, grid, other, which)):
                    rows.append({"grid": grid, "arm": arm, "number": title, "against": other} | found)
    return pd.DataFrame(rows, columns=["grid", "arm", "number", "against", *RESULT])


def choices(folder: Path) -> pd.DataFrame:
    """Every change to `dmpo` that was tried with the core grid's data, by what it gains in score on val."""
    found = tables(folder)
    rows, ours = [], found["core"][found["core"]["arm"] == "dmpo"] if "core" in found else pd.DataFrame()
    for grid in GRIDS:
        if grid in CLAIMS or grid == "static" or grid not in found or ours.empty:
            continue
        for arm, runs in found[grid].groupby("arm", sort=False):
            gains = 100 * (runs.set_index("seed")["score_val"] - ours.set_index("seed")["score_val"]).dropna()
            seeds = " ".join(f"{value:+.2f}" for value in gains)
            row = {"grid": grid, "arm": arm, "points": gains.mean(), "seeds": seeds}
            rows.append(row | {"enters": _enters(gains, runs["diverged"].any(), arm in cannot_meet(runs))})
    return pd.DataFrame(rows, columns=["grid", "arm", "points", "seeds", "enters"])


def _enters(gains: pd.Series[float], diverged: bool, too_dear: bool) -> str:
    if diverged or too_dear:
        return "no: it diverged" if diverged else f"no: it cannot meet {BUDGETS[0]:.0%}"
    if not (gains > 0).all():
        return "no"  # whatever the seeds that are missing may bring
    if len(gains) < len(SEEDS):
        return "open"
    return "yes" if gains.mean() >= ENTERS else "no"


# -- evidence for decoupling --

SEEN = {  # of `evidence`: what is read of a run: column → table, its number
    "cosine, first epoch": ("gradients", "cosine"),
    "cosine, last epoch": ("gradients", "cosine"),
    "trunk like the untuned (CKA)": ("stages", "kept"),
    "brightness in the trunk (R²)": ("stages", "low_level_trunk"),
    "label in the trunk": ("stages", "label_trunk"),
    "brightness in what is read (R²)": ("stages", "low_level_read"),
    "label in what is read": ("stages", "label_read"),
    "read like the last stage (CKA)": ("stages", "towards_last"),
}


def evidence(folder: Path, grid: str = "core") -> pd.DataFrame:
    """A row per arm and seed, a column per number of `SEEN`, each the mean over the early stages (all but the
    last) of a run."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for title, (what, number) in SEEN.items():
        for arm, table in kept(folder, grid, what).items():
            if what == "gradients":
                epochs = table.groupby("seed")["epoch"].transform("min" if "first" in title else "max")
                table = table[table["epoch"] == epochs]
            else:
                table = table[table["block"] < table["block"].max()]
            for seed, value in table.groupby("seed")[number].mean().items():
                found.setdefault((arm, int(str(seed))), {})[title] = float(value)
    rows = [{"arm": arm, "seed": seed} | numbers for (arm, seed), numbers in found.items()]
    return pd.DataFrame(rows, columns=["arm", "seed", *SEEN])

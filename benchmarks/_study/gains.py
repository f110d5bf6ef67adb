"""Paired comparisons of arms: points of test accuracy on the same images, seed by seed, with bootstrap intervals.

In: what `_study.tables` reads. Out: tables with points of test accuracy and 95 % intervals. Which comparisons are made,
and when one holds, was fixed before the runs (`grids`); nothing here chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from _study.grids import BUDGETS, ENTERS, GRIDS, SEEDS, SPLITS
from _study.tables import Correctness, cannot_meet, correctness, kept, strongest_naive, tables

RESAMPLES = 2000
PARTS = {  # of DMPO: a part → the arm without it
    "bypass": "dmpo-no-bypass",
    "second-order predictors": "dmpo-no-second-order",
    "two-phase loss weights": "dmpo-uniform",
}
CLAIMS = ("core", "headline", "improved", "shipped", "cnn")  # grids that have naive arms and the single model
RESULT = ["points", "low", "high", "seeds", "holds"]
AGAINST = {  # column of `contrasts` → an arm's number, of which other arm (None: the strongest naive one), which number
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


def paired(a: Correctness, b: Correctness) -> dict[str, Any] | None:
    """Mean difference a − b in points over the seeds of both; None if they share none.

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
    drawn = np.array_split(_resamples(image.size, RESAMPLES), 10)  # as floats a tenth at a time
    means = np.concatenate([counts @ image for counts in drawn]) / image.size
    low, high = np.quantile(means, [0.025, 0.975])
    holds = _holds(by_seed, low, high) if len(shared) == len(SEEDS) else "open"
    seeds = " ".join(f"{value:+.2f}" for value in by_seed)
    return {"points": by_seed.mean(), "low": low, "high": high, "seeds": seeds, "holds": holds}


@lru_cache(maxsize=2)
def _resamples(images: int, number: int) -> npt.NDArray[np.uint8]:
    """(number, images) how often each resample draws each image; the same ones for every comparison."""
    draw = np.random.default_rng(0)
    drawn = (draw.integers(images, size=images) for _ in range(number))
    return np.stack([np.bincount(rows, minlength=images).astype(np.uint8) for rows in drawn])


def _holds(by_seed: npt.NDArray[Any], low: float, high: float) -> str:
    if low > 0 and (by_seed > 0).all():
        return "yes"
    return "opposite" if high < 0 and (by_seed < 0).all() else "no"


def questions(grid: str, naive: str | None) -> Iterator[Question]:
    """The comparisons of a grid. ``naive``: its `strongest_naive`."""
    if "test" not in SPLITS[grid]:
        return  # see `choices`
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
    """Every comparison whose runs exist, a row each."""
    rows = []
    for grid, table in tables(folder).items():
        for question in questions(grid, strongest_naive(grid, table)):
            ours = correctness(folder, grid, question.arm, question.number)
            if found := paired(ours, correctness(folder, question.home or grid, question.other, question.other_number)):
                names = {"grid": grid, "kind": question.kind, "question": question.text}
                sides = {"a": f"{question.arm}, {question.number}", "b": f"{question.other}, {question.other_number}"}
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
                if found := paired(correctness(folder, grid, arm, what), correctness(folder, grid, other, which)):
                    rows.append({"grid": grid, "arm": arm, "number": title, "against": other} | found)
    return pd.DataFrame(rows, columns=["grid", "arm", "number", "against", *RESULT])


def choices(folder: Path) -> pd.DataFrame:
    """Every change to `dmpo` that was tried with the core grid's data, by its gain in score on val."""
    found = tables(folder)
    rows, ours = [], found["core"][found["core"]["arm"] == "dmpo"] if "core" in found else pd.DataFrame()
    for grid in GRIDS:
        if grid in CLAIMS or grid not in found or ours.empty:
            continue
        for arm, runs in found[grid].groupby("arm", sort=False):
            gains = 100 * (runs.set_index("seed")["score_val"] - ours.set_index("seed")["score_val"]).dropna()
            seeds = " ".join(f"{value:+.2f}" for value in gains)
            row = {"grid": grid, "arm": arm, "points": gains.mean(), "seeds": seeds}
            rows.append(row | {"enters": _enters(gains, runs["diverged"].any(), arm in cannot_meet(runs))})
    return pd.DataFrame(rows, columns=["grid", "arm", "points", "seeds", "enters"])


def _enters(gains: pd.Series[float], diverged: bool, too_large: bool) -> str:
    if diverged or too_large:
        return "no: it diverged" if diverged else f"no: it cannot meet {BUDGETS[0]:.0%}"
    if not (gains > 0).all():
        return "no"  # independently of the seeds that are missing
    if len(gains) < len(SEEDS):
        return "open"
    return "yes" if gains.mean() >= ENTERS else "no"


# -- evidence for decoupling --

SEEN = {  # columns of `evidence` → a run's table and the number in it
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

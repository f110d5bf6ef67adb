"""Claims of the study's second edition, from what is committed of its runs.

In: a study of `protocol.STUDIES` and its result folder. Out: a row per claim with its interval. Which comparisons are
made, and when one holds, was fixed before the runs (`protocol`); nothing here chooses but the best single model and the
strongest naive arm, by their accuracy on val.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from _photos.protocol import FIVE, Study
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.files import read_json
from dmpo_explore.utils.typing import Floats

WHOLE = "exit 1"  # of a model with one exit
PARTS = {  # a part → the arm without it, the arm with it alone
    "bypass": ("dmpo-no-bypass", "naive-bypass"),
    "second-order predictors": ("dmpo-no-second-order", "naive-second-order"),
    "two-phase loss weights": ("dmpo-uniform", "naive-schedule"),
}
SHARES = ("30%", "40%")


@dataclass(frozen=True)
class Claim:
    """``arm`` at budget ``at`` is above ``other`` at ``other_at``, or less than ``margin`` points below it.

    ``number``: of the protocol's list.
    """

    number: int
    text: str
    arm: str
    at: str
    other: str
    other_at: str
    margin: float = 0.0


def claims(study: Study, results: Path) -> Iterator[Claim]:
    """The claims whose arms the study has; those about the best arm on val only once a run of it is finished."""
    for arm in study.statics:
        yield Claim(1, f"above {arm} at its compute", "dmpo", arm, arm, WHOLE)
    if single := best_on_val(results, study, ("single", "single-head"), "exit_1"):
        for at, margin, points in (("40%", 1.0, "1 point"), ("30%", 3.0, "3 points")):
            yield Claim(2, f"within {points} of the best single model", "dmpo", at, single, WHOLE, margin)
    naive = best_on_val(results, study, ("naive", "naive-mean", "naive-equilibrium"), "accuracy_40%")
    rivals = {naive: "the strongest naive arm", "naive-matched": "naive exits with as many trainable weights"}
    for arm, name in rivals.items():
        if arm in study.arms:
            yield from (Claim(3, f"above {name}", "dmpo", at, arm, at) for at in SHARES)
    for part, (without, alone) in PARTS.items():
        for a, b, how in (("dmpo", without, "left out"), (alone, "naive", "added")):
            if {a, b} <= study.arms.keys():
                yield from (Claim(4, f"{part}, {how}", a, at, b, at) for at in SHARES)


def best_on_val(results: Path, study: Study, arms: tuple[str, ...], number: str) -> str | None:
    """The arm with the largest mean of a number on val over the seeds that all of them have; None while one lacks."""
    able = [arm for arm in arms if arm in study.arms]
    found = {arm: _rows(results, arm) for arm in able}
    shared = set.intersection(*(set(rows) for rows in found.values())) if found else set()
    if not shared:
        return None
    return max(able, key=lambda arm: float(np.mean([found[arm][seed][f"val_{number}"] for seed in shared])))


def table(results: Path, study: Study) -> pd.DataFrame:
    """A row per claim with finished runs: points, their interval, each seed's points, and whether it holds.

    ``holds`` is ``yes`` where the interval lies above minus the margin, ``opposite`` where it lies below, else ``no``;
    ``preliminary``: more seeds may decide it, as some are missing, or as all lie on one side where the interval does
    not. ``share`` and ``other_share``: compute used, of the reference.
    """
    rows: list[dict[str, Any]] = []
    for claim in claims(study, results):
        ours, theirs = _values(results, claim.arm, claim.at), _values(results, claim.other, claim.other_at)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            continue
        differences = 100 * np.stack([ours[seed] - theirs[seed] for seed in shared])
        points, low, high = seeds_interval(differences)
        holds = "yes" if low > -claim.margin else "opposite" if high < -claim.margin else "no"
        planned = 5 if {claim.arm, claim.other} <= set(FIVE) else 3
        by_seed = differences.mean(axis=1)
        agree = holds == "no" and abs(np.sign(by_seed + claim.margin).sum()) == len(shared)
        shares = (_share(results, claim.arm, claim.at, shared), _share(results, claim.other, claim.other_at, shared))
        rows.append(
            {"claim": claim.number, "text": claim.text, "a": claim.arm, "at": claim.at, "b": claim.other}
            | {"share": shares[0], "other_share": shares[1]}
            | {"accuracy": 100 * _mean(ours, shared), "other": 100 * _mean(theirs, shared)}
            | {"points": points, "low": low, "high": high, "margin": claim.margin}
            | {"seeds": " ".join(f"{value:+.2f}" for value in by_seed)}
            | {"holds": holds, "preliminary": len(shared) < planned or agree}
        )
    return pd.DataFrame(rows)


def _rows(results: Path, arm: str) -> dict[int, dict[str, Any]]:
    """Seed → row of the finished runs of an arm."""
    files = {seed: results / f"{arm}-s{seed}" / "row.json" for seed in range(5)}
    return {seed: dict(read_json(file)) for seed, file in files.items() if file.is_file()}


def _values(results: Path, arm: str, at: str) -> dict[int, Floats]:
    """Seed → correctness by test image, of the runs that have it."""
    found = {}
    for seed in _rows(results, arm):
        with np.load(results / f"{arm}-s{seed}" / "outcomes.npz", allow_pickle=False) as kept:
            if at in kept.files:
                found[seed] = kept[at].astype(np.float64)
    return found


def _mean(values: dict[int, Floats], seeds: list[int]) -> float:
    return float(np.mean([values[seed] for seed in seeds]))


def _share(results: Path, arm: str, at: str, seeds: list[int]) -> float:
    """Mean compute used, as a share of the reference."""
    rows, column = _rows(results, arm), "full_share" if at == WHOLE else f"share_{at}"
    return float(np.mean([rows[seed][column] for seed in seeds]))

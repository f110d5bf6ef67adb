"""Comparisons of the study's third edition, or of other arms, from what is committed of their runs.

In: the result folder, with a folder per set. Out: a row per comparison of the protocol, set and endpoint, with its
interval. Nothing here chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from _third.protocol import BUDGETS, COMPARISONS, PARTS_OF_STUDY, Comparison
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.typing import Floats

EARLY, LAST = "early exits", "last exit"


def table(
    results: Path,
    compared: Iterable[Comparison] = COMPARISONS,
    budgets: Collection[str] = BUDGETS,
    trainings: int | None = None,
) -> pd.DataFrame:
    """A row per comparison, set and endpoint with finished runs of both arms.

    Args:
        results: a folder per set. compared: pairs of arms. budgets: their names.
        trainings: that were planned of each arm; default: the study's.

    ``points``, ``low``, ``high``: ``a`` minus ``b``. ``verdict``: larger, smaller or open, as the interval has it.
    ``preliminary``: fewer seeds than the protocol plans.
    """
    rows: list[dict[str, Any]] = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        runs = {path.name: outcomes(path) for path in sorted(folder.glob("*-s?")) if (path / "row.json").is_file()}
        for comparison in compared:
            a, b = (
                {name[-1]: found for name, found in runs.items() if name[:-3] == arm}
                for arm in (comparison.arm, comparison.other)
            )
            if not (seeds := sorted(a.keys() & b.keys())):
                continue
            for end in endpoints(a[seeds[0]], b[seeds[0]], comparison.other, budgets):
                ours, theirs = (
                    np.stack([found[seed][at] for seed in seeds]) for found, at in zip((a, b), end, strict=True)
                )
                points, low, high = seeds_interval(100 * (ours - theirs))
                verdict = "larger" if low > 0 else "smaller" if high < 0 else "open"
                wanted = trainings or planned(folder.name, comparison.arm, comparison.other)
                rows.append(
                    {"set": folder.name, "comparison": comparison.text, "a": comparison.arm, "b": comparison.other}
                    | {"at": end[0], "a_accuracy": 100 * ours.mean(), "b_accuracy": 100 * theirs.mean()}
                    | {"points": points, "low": low, "high": high, "seeds": len(seeds), "verdict": verdict}
                    | {"preliminary": len(seeds) < wanted}
                )
    return pd.DataFrame(rows)


def interval(row: Any, between: str = " ") -> str:
    """A row's difference with its interval, in points."""
    return f"{row.points:+.1f}{between}[{row.low:+.1f}, {row.high:+.1f}]".replace("-", "−")


def outcomes(run: Path) -> dict[str, Floats]:
    """Endpoint → correctness by image (B,), the mean of the early exits in [0, 1]; of a finished run."""
    with np.load(run / "outcomes.npz", allow_pickle=False) as kept:
        found = {name: kept[name].astype(np.float64) for name in kept.files}
    exits = [found[f"exit {k}"] for k in range(1, sum(name.startswith("exit ") for name in found) + 1)]
    return found | {LAST: exits[-1]} | ({EARLY: np.mean(exits[:-1], axis=0)} if len(exits) > 1 else {})


def endpoints(
    a: dict[str, Floats], b: dict[str, Floats], other: str, budgets: Collection[str]
) -> list[tuple[str, str]]:
    """(of a, of b), the same ones but for models of one exit, which have one answer."""
    if EARLY in b:
        exits = [name for name in a if name.startswith("exit ")][:-1]
        return [(name, name) for name in (*exits, EARLY, LAST, *budgets) if name in a and name in b]
    return [(name, LAST) for name in (LAST, *([other] if other in a else budgets)) if name in a]


def planned(folder: str, *arms: str) -> int:
    """Seeds of a comparison's runs."""
    parts = [part for part in PARTS_OF_STUDY.values() if folder in (f"{name}{part.suffix}" for name in part.sets)]
    return min(max((part.seeds for part in parts if arm in part.arms), default=0) for arm in arms)

"""Paired comparisons of a study's arms, from its rows: points of accuracy on the same images, with intervals.

In: the rows of a study (`_common.rows`), pairs of arms. Out: a row per comparison, data set and endpoint, with its
interval over trainings and images. Nothing here chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from _common.rows import Correct, Rows
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.typing import Floats

EARLY, LAST = "early exits", "last exit"
LEAST_P = 1e-9  # smaller ones are not told apart


@dataclass(frozen=True)
class Comparison:
    """Two arms, at all endpoints that both have."""

    text: str
    arm: str
    other: str


def table(
    kept: Rows, compared: Iterable[Comparison], budgets: Collection[str], planned: Callable[[str, Comparison], int]
) -> pd.DataFrame:
    """A row per comparison, data set and endpoint with finished runs of both arms.

    Args:
        budgets: their names. planned: trainings of each arm that a data set's comparison was to have.

    ``points``, ``low``, ``high``: ``a`` minus ``b``. ``p``: see `p_value`. ``verdict``: larger, smaller or open, as the
    interval has it.
    ``preliminary``: fewer trainings than planned.
    """
    found: list[dict[str, Any]] = []
    for data in sorted({*kept.numbers()["set"]}):
        runs = {name: endpoints_of(correct) for name, correct in kept.outcomes(data).items()}
        for comparison in compared:
            a, b = (
                {name[-1]: ends for name, ends in runs.items() if name[:-3] == arm}
                for arm in (comparison.arm, comparison.other)
            )
            if not (seeds := sorted(a.keys() & b.keys())):
                continue
            for end in endpoints(a[seeds[0]], b[seeds[0]], comparison.other, budgets):
                ours, theirs = (
                    np.stack([ends[seed][at] for seed in seeds]) for ends, at in zip((a, b), end, strict=True)
                )
                points, low, high = seeds_interval(100 * (ours - theirs))
                verdict = "larger" if low > 0 else "smaller" if high < 0 else "open"
                found.append(
                    {"set": data, "comparison": comparison.text, "a": comparison.arm, "b": comparison.other}
                    | {"at": end[0], "a_accuracy": 100 * ours.mean(), "b_accuracy": 100 * theirs.mean()}
                    | {"points": points, "low": low, "high": high, "p": p_value(ours - theirs)}
                    | {"seeds": len(seeds), "verdict": verdict}
                    | {"preliminary": len(seeds) < planned(data, comparison)}
                )
    return pd.DataFrame(found)


def p_value(differences: Floats) -> float:
    """One less the level at which the interval over trainings and images just reaches 0; at least `LEAST_P`."""

    def beyond(p: float) -> float:
        _, low, high = seeds_interval(differences, level=1 - p)
        return max(low, -high)

    if beyond(LEAST_P) > 0 or beyond(1 - LEAST_P) <= 0:
        return LEAST_P if beyond(LEAST_P) > 0 else 1.0
    return float(brentq(beyond, LEAST_P, 1 - LEAST_P))


def interval(row: Any, between: str = " ") -> str:
    """A row's difference with its interval, in points."""
    return f"{row.points:+.1f}{between}[{row.low:+.1f}, {row.high:+.1f}]".replace("-", "−")


def endpoints_of(correct: Correct) -> dict[str, Floats]:
    """Endpoint → correctness by image (B,), the mean of the early exits in [0, 1]; of a finished run."""
    found = {name: values.astype(np.float64) for name, values in correct.items()}
    exits = [found[f"exit {k}"] for k in range(1, sum(name.startswith("exit ") for name in found) + 1)]
    return found | {LAST: exits[-1]} | ({EARLY: np.mean(exits[:-1], axis=0)} if len(exits) > 1 else {})


def endpoints(
    a: Mapping[str, Floats], b: Mapping[str, Floats], other: str, budgets: Collection[str]
) -> list[tuple[str, str]]:
    """(of a, of b), the same ones but for models of one exit, which have one answer."""
    if EARLY in b:
        exits = [name for name in a if name.startswith("exit ")][:-1]
        return [(name, name) for name in (*exits, EARLY, LAST, *budgets) if name in a and name in b]
    return [(name, LAST) for name in (LAST, *([other] if other in a else budgets)) if name in a]

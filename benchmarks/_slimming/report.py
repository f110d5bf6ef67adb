"""Table width × depth: accuracy of every way to spend a budget, and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from _slimming.protocol import SEEDS, WIDE, WIDTHS
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.files import read_json
from dmpo_explore.utils.typing import Bools, Floats, Ints, at_exits

WAYS = ("width", "depth", "both")
THRESHOLDS = 200  # tried of every model
Arrays = Mapping[str, Any]


def table(results: Path, costs: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row per budget and way: accuracy in per cent, cost used, and the difference from each other way.

    Args:
        costs: of `_slimming.run.times`; None: GFLOPs as deployed.
    """
    done = _done(results, WIDTHS)
    rows: list[dict[str, Any]] = []
    if not done:
        return pd.DataFrame(rows)
    prices = {arm: _costs(results / f"{arm}-s{done[0]}", arm, costs) for arm in WIDTHS}
    for budget_of in WIDTHS[1:]:
        budget = float(prices[budget_of][-1]) * (1 + 1e-9)
        spent = [_spend(results, seed, prices, budget) for seed in done]
        correct = {way: np.stack([np.asarray(one[way][0], np.float64) for one in spent]) for way in WAYS}
        for way in WAYS:
            used = float(np.mean([one[way][1] for one in spent]))
            row = {"budget": budget, "budget_of": budget_of, "way": way, "accuracy": 100 * correct[way].mean()}
            rows.append(row | {"used": used, "models": " ".join(one[way][2] for one in spent), "seeds": len(done)})
        for a, b in combinations(reversed(WAYS), 2):
            mean, low, high = seeds_interval(100 * (correct[a] - correct[b]))
            row = {"budget": budget, "budget_of": budget_of, "way": f"{a} - {b}", "accuracy": mean}
            rows.append(row | {"low": low, "high": high, "seeds": len(done)})
    return pd.DataFrame(rows)


def importance_table(results: Path) -> pd.DataFrame:
    """Importance by all exits against importance by the last one, at half width: points at every exit."""
    arms = ("w50", "w50-last")
    done = _done(results, arms)
    rows = []
    if done:
        ours, last = (np.stack([_read(results / f"{arm}-s{s}")["test correct"] for s in done]) for arm in arms)
        for k in range(ours.shape[2]):
            mean, low, high = seeds_interval(100.0 * (ours[..., k] * 1.0 - last[..., k]))
            rows.append({"exit": k + 1, "points": mean, "low": low, "high": high, "seeds": len(done)})
    return pd.DataFrame(rows)


def plane(results: Path, points: int = 40) -> pd.DataFrame:
    """The width × depth plane of a study, as `dx.analysis.width_depth` gives it: every value is the mean over seeds.

    A point of a model is the same quantile of the confidences of each of its trainings.
    """
    done = _done(results, WIDTHS)
    rows = []
    for arm in WIDTHS if done else ():
        runs = [(_read(results / f"{arm}-s{seed}"), _costs(results / f"{arm}-s{seed}", arm, None)) for seed in done]
        for share in np.linspace(0, 1, points):
            values = [_at_quantile(arrays, prices, float(share)) for arrays, prices in runs]
            names = ("threshold", "budget", "seen", "gflops", "accuracy")
            rows.append({"run": arm} | dict(zip(names, np.mean(values, axis=0), strict=True)))
    table = pd.DataFrame(rows, columns=["run", "threshold", "budget", "gflops", "accuracy", "seen"])
    table = table.sort_values(["budget", "seen"], ascending=[True, False], ignore_index=True)
    best = table["seen"].cummax()
    return table.assign(front=best > best.shift(fill_value=-1.0)).drop(columns="seen")


def _at_quantile(arrays: Arrays, prices: Floats, share: float) -> tuple[float, float, float, float, float]:
    """At this quantile of calibration's confidences: threshold, cost and accuracy there, cost and accuracy on test."""
    threshold = float(np.quantile(arrays["calibration confidence"][:, :-1], share)) if share < 1 else 1.01
    found = [threshold]
    for split in ("calibration", "test"):
        exits = exits_of(arrays[f"{split} confidence"].copy(), threshold)
        found += [float(prices[exits].mean()), float(at_exits(arrays[f"{split} correct"], exits).mean())]
    return found[0], found[1], found[2], found[3], found[4]


def _done(results: Path, arms: Sequence[str]) -> list[int]:
    """The seeds of which every one of these arms is there."""
    return [seed for seed in SEEDS if all((results / f"{arm}-s{seed}" / "row.json").is_file() for arm in arms)]


def exits_of(confidence: Floats, threshold: float) -> Ints:
    """(B,) 0-based exits of the policy confidence.

    Example:
        >>> exits_of(np.array([[0.9, 0.5], [0.2, 0.1]]), 0.8).tolist()
        [0, 1]
    """
    enough = confidence >= threshold
    enough[:, -1] = True
    return np.asarray(enough.argmax(axis=1))


def _spend(
    results: Path, seed: int, prices: Mapping[str, Floats], budget: float
) -> dict[str, tuple[Bools, float, str]]:
    """Way → correctness on test, mean cost there, and the model that was taken."""
    arrays = {arm: _read(results / f"{arm}-s{seed}") for arm in WIDTHS}
    static = next(arm for arm in WIDTHS if prices[arm][-1] <= budget)
    found = {"width": (arrays[static]["test correct"][:, -1], float(prices[static][-1]), static)}
    options = {arm: _best_threshold(arrays[arm], prices[arm], budget) for arm in WIDTHS}
    able = {arm: option for arm, option in options.items() if option is not None}
    best = max(able, key=lambda arm: able[arm][1])
    for way, arm in (("depth", WIDE), ("both", best)):
        exits = exits_of(arrays[arm]["test confidence"].copy(), able[arm][0])
        found[way] = (at_exits(arrays[arm]["test correct"], exits), float(prices[arm][exits].mean()), arm)
    return found


def _best_threshold(arrays: Arrays, price: Floats, budget: float) -> tuple[float, float] | None:
    """The threshold that is most accurate on calibration within the budget, and that accuracy; None if none is."""
    confidence, correct = arrays["calibration confidence"], arrays["calibration correct"]
    best: tuple[float, float] | None = None
    for threshold in (*np.quantile(confidence[:, :-1], np.linspace(0, 1, THRESHOLDS)), np.inf):
        exits = exits_of(confidence.copy(), float(threshold))
        accuracy = float(at_exits(correct, exits).mean())
        if price[exits].mean() <= budget and (best is None or accuracy > best[1]):
            best = (float(threshold), accuracy)
    return best


def _costs(result: Path, arm: str, costs: pd.DataFrame | None) -> Floats:
    """(K,) cost up to every exit."""
    if costs is None:
        row = read_json(result / "row.json")
        return np.array([value for key, value in row.items() if key.startswith("gflops_")])
    return costs.set_index("arm").loc[arm].filter(like="seconds_").to_numpy(np.float64)


def _read(result: Path) -> dict[str, Any]:
    with np.load(result / "outcomes.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}

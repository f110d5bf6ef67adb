"""The width × depth plane: a run and narrower ones at every threshold, and which of them a budget should buy.

In: records of a family of runs, to choose on and to read. Out: a table with one row per (run, threshold). Blocks
may be narrower, and exits make a model shallower; both are compared in GFLOPs as deployed. The front is chosen on the
first records and read on the others, so that a choice is not measured on the images that it was made on.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..fitting.fit import fit_policy
from ..records.record import ExitRecord
from .metrics import apply, trade_off


def width_depth(
    chosen: Mapping[str, ExitRecord],
    read: Mapping[str, ExitRecord],
    policy: str = "confidence",
    points: int = 40,
) -> pd.DataFrame:
    """Accuracy and GFLOPs of every (run, threshold), and the Pareto front.

    Args:
        chosen: run → its calibration (or val) record, on which thresholds and the front are chosen.
        read: run → the record that accuracy and GFLOPs are given of. points: thresholds of a run, at most.

    Returns:
        ``run``, ``threshold``, ``budget`` (mean GFLOPs on ``chosen``), ``gflops`` and ``accuracy`` (on ``read``) and
        ``front``: no other row had a higher accuracy on ``chosen`` with at most this budget; sorted by ``budget``.

    Raises:
        ValueError: no runs, or other names in ``read``.

    Example:
        >>> import dmpo_explore as dx
        >>> runs = {name: dx.load_run(name) for name in ("demo", "demo-naive")}
        >>> records = [{name: run.record(split) for name, run in runs.items()} for split in ("calibration", "test")]
        >>> table = width_depth(*records, points=5)
        >>> table.columns.tolist(), len(table) <= 10, set(table.loc[table["front"], "run"]) <= set(runs)
        (['run', 'threshold', 'budget', 'gflops', 'accuracy', 'front'], True, True)
    """
    if not chosen or chosen.keys() != read.keys():
        raise ValueError(f"give the same runs to choose on and to read, not {list(chosen)} and {list(read)}")
    rows = []
    for name, record in chosen.items():
        for setting in trade_off(record, policy, points).to_dict("records"):
            fitted = fit_policy(record, policy, threshold=setting["threshold"])
            found = apply(fitted, read[name]).summary()
            rows.append(
                {
                    "run": name,
                    "threshold": setting["threshold"],
                    "budget": setting["flops_fraction"] * record.meta.reference_flops / 1e9,
                    "gflops": found["flops_fraction"] * read[name].meta.reference_flops / 1e9,
                    "accuracy": found["accuracy"],
                    "seen": setting["accuracy"],
                }
            )
    table = pd.DataFrame(rows).sort_values(["budget", "seen"], ascending=[True, False], ignore_index=True)
    best = table["seen"].cummax()
    table["front"] = best > best.shift(fill_value=-1.0)
    return table.drop(columns="seen")


def best_buys(table: pd.DataFrame) -> pd.DataFrame:
    """Which run a budget should buy: the front of `width_depth` as stretches of budgets with one run.

    Returns:
        ``run``, ``low`` and ``high`` (GFLOPs); the last stretch ends at the largest budget of all.

    Example:
        >>> rows = [("wide", 0.2, 0.7, True), ("half", 0.3, 0.8, True), ("half", 0.4, 0.9, True)]
        >>> best_buys(pd.DataFrame(rows, columns=["run", "budget", "accuracy", "front"])).values.tolist()
        [['wide', 0.2, 0.3], ['half', 0.3, 0.4]]
    """
    front = table[table["front"]]
    starts = front[front["run"] != front["run"].shift()]
    ends = [*starts["budget"].iloc[1:], table["budget"].max()]
    return pd.DataFrame({"run": starts["run"].tolist(), "low": starts["budget"].tolist(), "high": ends})

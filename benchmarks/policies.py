"""Gain of every exit policy over one confidence threshold at equal compute. `scripts/bench policies [RUN …]`

In: runs with calibration (or val) and test records. Out: ``benchmarks/results/policies.csv`` and, also on
stdout, the verdict as ``policies.md``. Every policy is fitted on a resample of calibration (drawn with
replacement) for every budget and judged on a resample of test, against the confidence threshold at the compute that
the policy used there, read off the curve of the same resample. 20 such pairs give a mean and, as the resamples carry
the sampling error of calibration and of test, a 95 % interval from their spread (Student's t). ``val`` rows, for
choices that must not look at test: the same with that split cut into halves, one to fit on and one to judge.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

import dmpo_explore as dx
from _common.command import parser
from _common.results import RESULTS, write_table
from dmpo_explore.utils.files import write_text

BUDGETS = (0.2, 0.25, 0.3, 0.5)
REFERENCE, JUDGED = "confidence", ("val", "test")
RESAMPLES = 20
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "confidence, per exit": (REFERENCE, {"per_exit": True}),
    "confidence, calibrated": (REFERENCE, {"temperatures": "fit"}),
    **{name: (name, {}) for name, kind in dx.POLICIES.items() if kind.deployable and name != REFERENCE},
    "gate, per exit": ("gate", {"per_exit": True}),
}


def pairs(run: dx.Run, judged: str, resamples: int) -> Iterator[tuple[dx.ExitRecord, dx.ExitRecord]]:
    """Records to fit on and to judge, seed after seed."""
    val = run.record(run.fitting_split)
    for seed in range(resamples):
        rng = np.random.default_rng(seed)
        if judged == "val":
            order = rng.permutation(val.n_images)
            yield val.subset(order[: val.n_images // 2]), val.subset(order[val.n_images // 2 :])
        else:
            test = run.record("test")
            yield tuple(r.subset(rng.integers(r.n_images, size=r.n_images)) for r in (val, test))  # type: ignore[misc]


def gains(run: dx.Run, judged: str, resamples: int = RESAMPLES) -> pd.DataFrame:
    """A row per resample, arm and budget: accuracy, compute, and the gain at equal compute."""
    rows = []
    for seed, (fitted_on, held_out) in enumerate(pairs(run, judged, resamples)):
        curve = dx.fitting.sweep(held_out, REFERENCE)
        for arm, (name, how) in ARMS.items():
            if "temperatures" in how and fitted_on.logits is None:
                continue
            for budget in (budget for budget in BUDGETS if budget >= fitted_on.flops_fraction[0]):
                outcome = dx.apply(dx.fit_policy(fitted_on, name, flops=budget, **how), held_out)
                accuracy, flops = outcome.correct.mean(), outcome.flops_fraction.mean()
                there = np.interp(flops, curve.flops_fraction, curve.correct / held_out.n_images)
                rows.append((run.name, judged, seed, arm, budget, accuracy, flops, accuracy - there))
    columns = ["run", "judged", "seed", "policy", "budget", "accuracy", "flops_fraction", "gain"]
    return pd.DataFrame(rows, columns=columns)


def intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Mean gain and its 95 % interval over the resamples, per run, judged split, policy and budget."""
    groups = table.groupby(["run", "judged", "policy", "budget"], sort=False)
    found = groups[["accuracy", "flops_fraction", "gain"]].mean()
    count, spread = groups["gain"].count(), groups["gain"].std(ddof=1).fillna(0.0)
    half = spread * student.ppf(0.975, np.maximum(count - 1, 1))
    return found.assign(low=found["gain"] - half, high=found["gain"] + half, resamples=count).reset_index()


def verdict(table: pd.DataFrame) -> list[str]:
    """Per run and budget the policies whose whole interval lies above 0, or "none", as a Markdown table."""
    lines = [
        "| run | judged on | budget | beats one confidence threshold at equal compute (points, 95 %) |",
        "|---|---|---|---|",
    ]
    for (run, judged, budget), rows in table.groupby(["run", "judged", "budget"], sort=False):
        better = rows[rows["low"] > 0].sort_values("gain", ascending=False)
        texts = [
            f"{r.policy} {100 * r.gain:+.2f} [{100 * r.low:+.2f}, {100 * r.high:+.2f}]" for r in better.itertuples()
        ]
        lines.append(f"| {run} | {judged} | {100 * budget:g} % | {'; '.join(texts) or 'none'} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, print the verdict."""
    given = parser(__doc__)
    given.add_argument("runs", nargs="*", default=["demo", "demo-naive", "fashion", "fashion-naive"])
    given.add_argument("--resamples", type=int, default=RESAMPLES)
    options = given.parse_args(arguments)
    if options.list:
        print("\n".join(f"{run} {judged} {arm}" for run in options.runs for judged in JUDGED for arm in ARMS))
        return 0
    parts = [gains(dx.load_run(run), judged, options.resamples) for run in options.runs for judged in JUDGED]
    table = intervals(pd.concat(parts, ignore_index=True))
    write_table("policies", table, RESULTS)
    text = "\n".join(verdict(table))
    write_text(RESULTS / "policies.md", f"Made by `scripts/bench policies`.\n\n{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

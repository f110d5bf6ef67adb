"""Distribution shift: fitted policies on corrupted images. `scripts/bench shift [RUN]`

In: a run with weights (the backbone fetched) and its test images. Out: ``benchmarks/results/shift.csv``,
``shift.png`` and a summary on stdout; for online thresholds ``shift-online.csv``, ``shift-online-way.csv`` (the
threshold along the streams) and ``shift-online.png``. The first 1,000 test images are corrupted by noise, blur,
contrast, rotation in five strengths each; the model runs over all 20,000 once (about 7 minutes on one CPU thread), and
its records are kept in ``runs/shift/RUN``, so that an interrupted command resumes. Policies are fitted on clean
calibration images.

Online thresholds, fixed beforehand: streams of 1,000 clean test images, others than those that are corrupted, then
1,000 corrupted ones. ``UCB1`` is as near to the paper as its public text allows; the other arms change what is ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import dmpo_explore as dx
from _common.results import RESULTS, write_figure, write_table
from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS
from dmpo_explore.inference.torch_recording import record_corrupted
from dmpo_explore.neighbours.online_thresholds import ThresholdBandit, fit_bandit, online_figure, online_shift_table

IMAGES = 1000


def policies(val: dx.ExitRecord) -> dict[str, dx.Policy]:
    """A compute budget for two policies, a risk bound, and full depth."""
    return {
        "confidence, 30 %": dx.fit_policy(val, flops=0.3),
        "gate, 30 %": dx.fit_policy(val, "gate", flops=0.3),
        "early-exit error ≤ 1 %": dx.fit_policy(val, risk="too_early", epsilon=0.01),
        "full depth": dx.fit_policy(val, "fixed", threshold=val.n_exits),
    }


def records(run: dx.Run, folder: Path, images: int = IMAGES) -> Iterator[tuple[str, int, dx.ExitRecord]]:
    """The clean images, then every corruption and strength."""
    rows = slice(0, images)
    yield "none", 0, run.record("test").subset(rows)
    yield from record_corrupted(run, folder, rows)


def bandits(val: dx.ExitRecord) -> dict[str, tuple[ThresholdBandit, dx.Policy]]:
    """Bandits, each with the frozen policy that it starts from and is compared with."""
    budget, bound = dx.fit_policy(val, flops=0.3), dx.fit_policy(val, risk="too_early", epsilon=0.01)
    return {
        "UCB1": (fit_bandit(val, budget, exploration=1.0, lower=False), budget),
        "online": (fit_bandit(val, budget), budget),
        "online, memory 500": (fit_bandit(val, budget, memory=500), budget),
        "online, from the bound": (fit_bandit(val, bound), bound),
    }


def online_summary(table: pd.DataFrame) -> list[str]:
    """Per bandit and corruption at strength 0, 3 and 5: points of accuracy and of compute more than the frozen policy,
    and the early-exit error."""
    lines = ["| bandit | images | accuracy, points | compute, points | early-exit error |", "|---|---|---|---|---|"]
    for _, row in table[table["strength"].isin((0, 3, 5))].sort_values("policy", kind="stable").iterrows():
        cells = [
            f"{100 * row[f'{name}_gain']:+.1f} ({100 * row[f'{name}_gain_low']:+.1f} to "
            f"{100 * row[f'{name}_gain_high']:+.1f})"
            for name in ("accuracy", "flops_fraction")
        ]
        error = f"{100 * row['too_early']:.1f} %{' violated' if row['violated'] else ''}"
        lines.append(f"| {row['policy']} | {row['corruption']} {row['strength']} | {' | '.join(cells)} | {error} |")
    return lines


def summary(table: pd.DataFrame) -> list[str]:
    """Per corruption at strength 0, 3 and 5: accuracy and compute of the 30 % policy, and violations of risk bounds."""
    names = [name for name in table["policy"].unique() if name.startswith("early-exit error")]
    lines = ["| corruption | strength | accuracy | compute | full depth | " + " | ".join(names) + " |"]
    lines.append("|" + "---|" * (5 + len(names)))
    for (corruption, strength), rows in table.groupby(["corruption", "strength"], sort=False):
        if strength not in (0, 3, 5):
            continue
        by_name = rows.set_index("policy")
        budget, full = by_name.loc["confidence, 30 %"], by_name.loc["full depth"]
        cells = [
            f"{100 * budget['accuracy']:.1f} %",
            f"{100 * budget['flops_fraction']:.1f} %",
            f"{100 * full['accuracy']:.1f} %",
        ]
        bounded = [by_name.loc[name] for name in names]
        cells += [f"{100 * row['too_early']:.1f} %{' violated' if row['violated'] else ''}" for row in bounded]
        lines.append(f"| {corruption} | {strength} | " + " | ".join(cells) + " |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the model where it has not run yet, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="fashion")
    parser.add_argument("--folder", type=Path, help="folder of the records of corrupted images; default runs/shift/RUN")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--streams", type=int, default=50, help="of online thresholds, for every record")
    options = parser.parse_args(arguments)
    run = dx.load_run(options.run)
    total = 1 + len(CORRUPTIONS) * len(STRENGTHS)
    passes = tqdm(
        records(run, options.folder or Path("runs/shift") / run.name, options.images), total=total, disable=None
    )
    held_out, seen = run.record(run.fitting_split), list(passes)
    table = dx.analysis.shift_table(seen, policies(held_out))
    write_table("shift", table, RESULTS)
    print("\n".join(summary(table)))
    clean = run.record("test").subset(slice(options.images, None))
    online, way = online_shift_table(clean, seen, bandits(held_out), streams=options.streams)
    write_table("shift-online", online, RESULTS)
    write_table("shift-online-way", way[way["strength"] == max(STRENGTHS)], RESULTS)
    print("\n".join(["", *online_summary(online)]))
    strongest = online_figure(way[way["strength"] == max(STRENGTHS)])
    write_figure("shift", dx.figures.shift_figure(table), 1200, 900, RESULTS)  # last: it needs a browser
    write_figure("shift-online", strongest, 1200, 400, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())

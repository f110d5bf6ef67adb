"""A budget that holds, beside frozen thresholds and a bandit, on streams that change. `scripts/bench hold_budget`

In: `shops` with its records of the other shops, and a run with weights, whose test images are corrupted (`--run`). Out:
``benchmarks/results/hold-budget.csv``, and with ``--write`` the table of ``benchmarks/EVIDENCE.md``.

A stream is `LENGTH` held-out images of the same kind as calibration, then as many of another: photographs of the other
shops, or corrupted ones (of `IMAGES`); both drawn with replacement, `STREAMS` times. All numbers are of its second
half, means over streams, with the quantiles that hold 95 % of them. Every arm begins with the threshold for 30 % of the
compute on calibration; *bound* with the one that keeps early-exit errors below 5 % there with Learn then Test.
Corrupted images are recorded once and kept in ``runs/hold-budget/RUN``, so that an interrupted command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import dmpo_explore as dx
from _common.results import RESULTS, with_part, write_table
from dmpo_explore.inference.torch_recording import record_corrupted
from dmpo_explore.neighbours.online_thresholds import ThresholdBandit, fit_bandit, online_thresholds
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.utils.files import write_text

PAGE = Path(__file__).parent / "EVIDENCE.md"
IMAGES, LENGTH, STREAMS, BUDGET, EPSILON = 400, 1000, 50, 0.30, 0.05
SHOWN = 5  # strength of corruptions in the page's table; the file has all, and another window
MEASURES = ("flops_fraction", "accuracy", "too_early")

Arm = dx.Policy | ThresholdBandit


def arms_of(calibration: ExitRecord) -> dict[str, Arm]:
    """Fitted on calibration: name → a policy, or a bandit that begins as one."""
    budget = dx.fit_policy(calibration, flops=BUDGET)
    bound = dx.fit_policy(calibration, risk="too_early", epsilon=EPSILON)
    return {
        "frozen": budget,
        "held": dx.hold_budget(budget, calibration),
        "held, window 100": dx.hold_budget(budget, calibration, window=100),
        "bandit": fit_bandit(calibration, budget),
        "bound, frozen": bound,
        "bound, held": dx.hold_budget(bound, calibration),
        "bound, held, window 100": dx.hold_budget(bound, calibration, window=100),
    }


def measured(arm: Arm, first: ExitRecord, second: ExitRecord) -> list[float]:
    """`MEASURES` of the second half of a stream."""
    if isinstance(arm, ThresholdBandit):
        exits = online_thresholds(second, arm, state=online_thresholds(first, arm).state).exits
    else:
        stream = arm.begin()
        stream.exits(first)
        exits = stream.exits(second)
    found = dx.summarise(second, exits)
    return [float(found[name]) for name in MEASURES]


def table_of(
    calibration: ExitRecord, before: ExitRecord, others: Iterable[tuple[str, ExitRecord]], streams: int = STREAMS
) -> pd.DataFrame:
    """A row per kind of images that come after ``before``, and arm."""
    arms, rows = arms_of(calibration), []
    for kind, after in others:
        draws = [np.random.default_rng(seed) for seed in range(streams)]
        halves = [[one.subset(rng.integers(one.n_images, size=LENGTH)) for one in (before, after)] for rng in draws]
        for name, arm in arms.items():
            values = np.array([measured(arm, *pair) for pair in halves])
            low, high = np.quantile(values, (0.025, 0.975), axis=0)
            row: dict[str, str | float] = {"images": kind, "arm": name}
            for i, measure in enumerate(MEASURES):
                row |= {measure: values[:, i].mean(), f"{measure}_low": low[i], f"{measure}_high": high[i]}
            rows.append(row)
    return pd.DataFrame(rows)


def shops_table(streams: int = STREAMS) -> pd.DataFrame:
    """Photographs of the other shops after those of the same ones."""
    run = dx.load_run("shops")
    home, away = run.record("test"), run.record("grocery-shops-test")
    return table_of(run.record("calibration"), home, [("the same shops", home), ("the other shops", away)], streams)


def corrupted_table(run: dx.Run, folder: Path, streams: int = STREAMS) -> pd.DataFrame:
    """Corrupted test images after clean ones, which are others."""
    passes = tqdm(record_corrupted(run, folder, slice(0, IMAGES), device="cpu"), unit="record", disable=None)
    others = ((f"{name}, strength {strength}", record) for name, strength, record in passes)
    return table_of(run.record(run.fitting_split), run.record("test").subset(slice(IMAGES, None)), others, streams)


def lines_of(table: pd.DataFrame) -> list[str]:
    """The page's table: compute, accuracy and early-exit error of every arm, in percent."""
    lines = ["| images | thresholds | compute | accuracy | early-exit error |", "|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        if "window" in row["arm"] or row["images"][-1] in "1234"[: SHOWN - 1]:
            continue
        cells = [f"{100 * row[m]:.1f} [{100 * row[f'{m}_low']:.1f}, {100 * row[f'{m}_high']:.1f}]" for m in MEASURES]
        lines.append(f"| {row['images']} | {row['arm']} | {' | '.join(cells)} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Record what is missing, play, print or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default="demo", help="whose images are corrupted")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--write", action="store_true", help="keep the results and write them into EVIDENCE.md")
    options = parser.parse_args(arguments)
    run = dx.load_run(options.run)
    table = pd.concat([
        shops_table(options.streams), corrupted_table(run, Path("runs/hold-budget") / run.name, options.streams),
    ])  # fmt: skip
    text = "\n".join(lines_of(table))
    print(text)
    if options.write:
        write_table("hold-budget", table, RESULTS)
        write_text(PAGE, with_part(PAGE.read_text(encoding="utf-8"), "hold budget", text))
    return 0


if __name__ == "__main__":
    sys.exit(main())

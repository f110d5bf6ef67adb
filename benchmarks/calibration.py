"""Calibration error of every exit before and after temperature scaling. `scripts/bench calibration [RUN]`

In: a run whose val and test records have logits. Out: ``benchmarks/results/calibration.csv``, ``calibration.png`` and
the table on stdout. Temperatures are fitted on calibration (val where a run has none), everything
else is read on test. Beside the errors: early-exit failure prediction (EEFP, arXiv 2508.21495).
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, write_figure, write_table


def as_markdown(table: pd.DataFrame) -> list[str]:
    """A line per exit: temperature, three errors and EEFP before → after."""
    head = ["exit", "temperature", "expected calibration error", "adaptive", "Brier score", "EEFP"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for exit, rows in table.groupby("exit"):
        before, after = (rows[rows["when"] == when].iloc[0] for when in ("before", "after"))
        errors = [f"{100 * before[key]:.2f} → {100 * after[key]:.2f} %" for key in ("ece", "adaptive_ece")]
        brier = f"{before['brier']:.4f} → {after['brier']:.4f}"
        eefp = "–" if pd.isna(before["eefp"]) else f"{before['eefp']:.4f} → {after['eefp']:.4f}"
        lines.append(f"| {exit} | {after['temperature']:.3f} | {errors[0]} | {errors[1]} | {brier} | {eefp} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Fit on calibration, read on test, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="fashion")
    run = dx.load_run(parser.parse_args(arguments).run)
    test, temperatures = run.record("test"), dx.fitting.fit_temperatures(run.record(run.fitting_split))
    table = dx.analysis.calibration_table(test, temperatures)
    write_table("calibration", table, RESULTS)
    print("\n".join(as_markdown(table)))
    records = {"before": test, "after its temperature": dx.fitting.tempered_record(test, temperatures)}
    figure = dx.figures.reliability_figure(
        {name: dx.analysis.reliability_table(record) for name, record in records.items()}
    )
    curves, areas = dx.analysis.failure_prediction_curves(test), dx.analysis.failure_prediction(test)
    write_figure("failure-prediction", dx.figures.failure_prediction_figure(curves, areas), 700, 500, RESULTS)
    write_figure("calibration", figure, 1000, 650, RESULTS)  # last: it needs a browser, the rest does not
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Learned exit-loss weights against fixed ones, run by run: `scripts/bench learned_weights STUDY`; `_learned.protocol`.

In: a study of `STUDIES`. Out, in ``benchmarks/results/neighbours``: what is kept of every finished run in
``learned-STUDY/RUN``, a row each in ``learned-STUDY.csv``, the comparisons in ``…-gains.csv`` and the learned weights
in ``…-lambda.csv``. Start it as often as you like: a training goes on at its last epoch, a finished run is never made
again. ``--list`` shows what is left; ``--report`` writes the tables of what there is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from _common.results import RESULTS, write_table
from _learned.protocol import STUDIES, arm_of
from _learned.report import gains, learned
from _learned.run import make_row
from _study.run import is_done, write_rows


def main(arguments: list[str] | None = None) -> int:
    """Make the runs of a study and write its tables after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--root", type=Path, default=Path("runs/learned"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    parser.add_argument("--report", action="store_true", help="the tables of what there is, without making more")
    options = parser.parse_args(arguments)
    study, folder = STUDIES[options.study], RESULTS / "neighbours"
    results, root = folder / f"learned-{options.study}", options.root / options.study
    plan = [(f"{arm}-s{seed}", arm_of(study, arm, seed)) for arm, seed in study.plan()]
    for run, config in plan:
        if options.list and not is_done(results / run, config):
            print(run)
        if options.list or options.report:
            continue
        os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
        root.mkdir(parents=True, exist_ok=True)
        results.mkdir(parents=True, exist_ok=True)
        make_row(root / run, results / run, config, study, print)
        report(folder, results, options.study, [name for name, _ in plan])
    if options.report:
        report(folder, results, options.study, [name for name, _ in plan])
    return 0


def report(folder: Path, results: Path, name: str, runs: list[str]) -> None:
    """The tables of the finished runs."""
    write_rows(results, runs, folder / f"learned-{name}.csv")
    write_table(f"learned-{name}-gains", gains(results), folder)
    write_table(f"learned-{name}-lambda", learned(results), folder)


if __name__ == "__main__":
    sys.exit(main())

"""Width, depth or both at equal compute and equal time: `scripts/bench slimming STUDY`; protocol `_slimming.protocol`.

In: a study of `STUDIES`. Out: what is kept of every run in ``benchmarks/results/neighbours/slimming-STUDY/RUN``, a row
per finished run in ``neighbours/slimming-STUDY.csv``, and the tables ``…-table.csv`` and ``…-importance.csv``, to be
committed as they end. Start it as often as you like: a run goes on at its last epoch, a finished one is never made
again. ``--list`` shows what is left. ``--time`` measures the models of seed 0, on a quiet machine, and adds
``…-seconds.csv`` and ``…-time-table.csv``. ``--figure`` draws the finished runs as ``slimming-STUDY.png``.
Caltech-101: DMPO_EXPLORE_DATA is the folder of its files.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, write_figure, write_table
from _slimming.protocol import ARMS, LR, STUDIES, WIDTHS
from _slimming.report import importance_table, plane, table
from _slimming.run import make_row, times
from _study.run import write_rows

FOLDER = RESULTS / "neighbours"


def main(arguments: list[str] | None = None) -> int:
    """Make the runs of a study and write its tables after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=ARMS, default=list(ARMS), help="only these")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 4), help="the first ones")
    parser.add_argument("--root", type=Path, default=Path("runs/slimming"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    parser.add_argument("--time", action="store_true", help="measure time, on a quiet machine")
    parser.add_argument("--figure", action="store_true", help="draw the finished runs; needs a browser")
    options = parser.parse_args(arguments)
    study, name = STUDIES[options.study], f"slimming-{options.study}"
    root, results = options.root / options.study, FOLDER / name
    os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
    if options.time:
        write_table(f"{name}-seconds", times(root), FOLDER)
        write_table(f"{name}-time-table", table(results, pd.read_csv(FOLDER / f"{name}-seconds.csv")), FOLDER)
        return 0
    if options.figure:
        found = plane(results)
        shown = dx.figures.width_depth_figure(found, dx.analysis.best_buys(found), {a: i for i, a in enumerate(WIDTHS)})
        write_figure(name, shown, 900, 480, FOLDER)
        return 0
    order = [f"{arm}-s{seed}" for arm, seed in study.plan()]
    left = [
        (arm, seed) for arm, seed in study.plan()
        if arm in options.arms and seed < options.seeds and not (results / f"{arm}-s{seed}" / "row.json").is_file()
    ]  # fmt: skip
    if options.list:
        print("\n".join(f"{arm}-s{seed}" for arm, seed in left))
        return 0
    if LR is None:
        print("slimming: the learning rate is not chosen (LR in _slimming/protocol.py)", file=sys.stderr)
        return 1
    for folder in (root, results):
        folder.mkdir(parents=True, exist_ok=True)
    for arm, seed in left:
        make_row(root, results, study, arm, seed)
        write_rows(results, order, FOLDER / f"{name}.csv")
        write_table(f"{name}-table", table(results), FOLDER)
        write_table(f"{name}-importance", importance_table(results), FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Research on photographs: train and measure trials on Caltech-101, on val only: `scripts/bench photos [TRIAL …]`.

In: trials of `_photos.trials.TRIALS` (default: all, in order) and seeds. Out: a run folder per trial and seed under
``--root``; a result folder in ``benchmarks/results/photos/`` and a row in ``benchmarks/results/photos.csv`` per finished
trial. It goes on after a stop: a training resumes at its last epoch, a finished row is never made again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from _common.results import RESULTS, write_table
from _photos.run import run_trial
from _photos.trials import TRIALS
from dmpo_explore.utils.files import read_json


def write_rows(results: Path, path: Path) -> pd.DataFrame:
    """The rows of all finished trials as CSV, in the order of `TRIALS`, then by seed."""
    order = {name: number for number, name in enumerate(TRIALS)}
    rows = [read_json(file) for file in results.glob("*/row.json")]
    rows.sort(key=lambda row: (order.get(row["trial"].rpartition("-s")[0], len(order)), row["trial"]))
    table = pd.DataFrame(rows)
    write_table(path.stem, table, path.parent)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the trials, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=", ".join(TRIALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--root", type=Path, default=Path("runs/photos"), help="folder of the runs")
    options = parser.parse_args(arguments)
    if foreign := [name for name in options.trials if name not in TRIALS]:
        parser.error(f"{foreign[0]} is no trial; there are {', '.join(TRIALS)}")
    results = RESULTS / "photos"
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root)  # where the library puts runs
    options.root.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.trials or TRIALS:
            run = f"{name}-s{seed}"
            print(run_trial(options.root / run, results / run, TRIALS[name].config(seed), print), flush=True)
            write_rows(results, RESULTS / "photos.csv")
    print(write_rows(results, RESULTS / "photos.csv").to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

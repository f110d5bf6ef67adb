"""Which recipe holds on photographs at a third of the compute: `scripts/bench recipe`, chosen on val alone.

In: the trials of `_photos.recipe`, each one change of a base or several together, and the arms whose accuracy on test
is given. Out: a run folder per trial and seed under ``--root``; what is kept of it in
``benchmarks/results/recipe/DATA/RUN``, a row per finished run in ``benchmarks/results/recipe.csv``, to be committed as
they end, and the comparisons on test in ``recipe-comparisons.csv``. Start it as often as you like: a training goes on
at its last epoch, a finished run is never made again. A teacher is a trial too and is made first.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from _common.results import RESULTS, write_table
from _photos.recipe import COMPARED, DATA, TEST, TRIALS, run_name, wanted
from _photos.run import BUDGETS, make_row
from _study.run import is_done
from _third import comparisons
from dmpo_explore.utils.files import read_json


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="default: all, in order")
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA], help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="default: those of each trial")
    parser.add_argument("--root", type=Path, default=Path("runs/recipe"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    options = parser.parse_args(arguments)
    if foreign := {*options.trials} - {*TRIALS}:
        parser.error(f"no trial {min(foreign)}; there are {', '.join(TRIALS)}")
    for data in options.data:
        for seed in options.seeds or sorted({seed for trial in TRIALS.values() for seed in trial.seeds}):
            for name in wanted(options.trials or TRIALS):
                trial = TRIALS[name]
                if data not in trial.data or not (options.seeds or seed in trial.seeds):
                    continue
                run, config = run_name(name, seed), trial.config(data, seed)
                result = RESULTS / "recipe" / data / run
                if options.list:
                    if not is_done(result, config):
                        print(f"{data} {run}")
                    continue
                root = options.root / data
                os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs, and finds teachers
                root.mkdir(parents=True, exist_ok=True)
                result.parent.mkdir(parents=True, exist_ok=True)
                rivals = {rival: TRIALS[rival].config(data, seed) for rival in trial.rivals}
                make_row(root / run, result, config, print, image_size=trial.reference, read=trial.read, rivals=rivals)
                write_rows()
    return 0


def write_rows() -> None:
    """Write the tables of all finished runs, and of the comparisons on test."""
    rows = [
        {"data": data, **read_json(file)}
        for data in DATA
        for name in TRIALS
        for file in sorted((RESULTS / "recipe" / data).glob(f"{name}-s?/row.json"))
    ]
    write_table("recipe", pd.DataFrame(rows), RESULTS)
    found = comparisons.table(RESULTS / "recipe", COMPARED, BUDGETS, len(TEST["seeds"]))
    if len(found):
        write_table("recipe-comparisons", found, RESULTS)


if __name__ == "__main__":
    sys.exit(main())

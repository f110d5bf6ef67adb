"""Which recipe holds on photographs at a third of the compute: `scripts/bench recipe`, chosen on val alone.

In: the trials of `_photos.recipe`, each one change of a base or several together, and the arms whose accuracy on test
is given. Out: a run folder per trial and seed under ``--root``; what is kept of it in
``benchmarks/results/recipe/DATA/RUN``, a row per finished run in ``benchmarks/results/recipe.csv``, to be committed as
they end, and the comparisons on test in ``recipe-comparisons.csv``; with ``--write`` the tables of
``benchmarks/PHOTOS.md``. Start it as often as you like: a training goes on at its last epoch, a finished run is never
made again. A teacher is a trial too and is made first.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import product
from pathlib import Path

import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, with_part, write_table
from _photos.recipe import COMPARED, DATA, EPOCHS, FINAL, IMAGES, TEST, TRIALS, run_name, wanted
from _photos.run import BUDGETS, make_row
from _study.run import is_done
from _third import comparisons
from dmpo_explore.utils.files import read_json, write_text

PAGE = Path(__file__).parent / "PHOTOS.md"


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="default: all, in order")
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA], help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="default: those of each trial")
    parser.add_argument("--root", type=Path, default=Path("runs/recipe"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    parser.add_argument("--write", action="store_true", help="renew the tables of the page, and make no run")
    options = parser.parse_args(arguments)
    if options.write:
        write_text(PAGE, renewed(PAGE.read_text(encoding="utf-8")))
        return 0
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


def renewed(page: str) -> str:
    """The page with its tables made anew from the rows."""
    rows, compared = (pd.read_csv(RESULTS / f"{name}.csv") for name in ("recipe", "recipe-comparisons"))
    parts = {"recipe-grid": grid_of(rows), "recipe-arms": arms_of(rows), "recipe-test": differences_of(compared)}
    for name, lines in parts.items():
        page = with_part(page, name, "\n".join(lines))
    return page


def arms_of(table: pd.DataFrame) -> list[str]:
    """The arms on test: accuracy in per cent, a row per arm, the mean of its trainings."""
    rows = table[table["read"] == "test"].assign(arm=lambda rows: rows["run"].str[:-3])
    means = rows.groupby("arm").mean(numeric_only=True).assign(trainings=rows.groupby("arm").size())
    cells = [["arm", "trainings", *(f"exit {k}" for k in range(1, 6)), "last exit", "its compute", *BUDGETS]]
    for name in (name for name in FINAL if name in means.index):
        row = means.loc[name].dropna()
        exits = [row[f"exit_{k}"] for k in range(1, 7) if f"exit_{k}" in row]
        budgets = (row.get(f"accuracy_{at}") for at in BUDGETS)
        found = [*([None] * (6 - len(exits))), *exits, row["full_share"], *budgets]
        shown = ["" if value is None else f"{100 * value:.1f}" for value in found]
        cells.append([f"{FINAL[name].question} (`{name}`)", f"{row['trainings']:.0f}", *shown])
    return dx.analysis.markdown(cells)


def differences_of(compared: pd.DataFrame) -> list[str]:
    """The recipe less every other arm on test, in points with intervals: a row per exit or budget."""
    arms = [arm for arm in FINAL if arm in {*compared["b"]}]
    of_arm = {arm: {row.at: row for row in compared[compared["b"] == arm].itertuples()} for arm in arms}
    cells = [["the recipe less …", *(FINAL[arm].question for arm in arms)]]
    cells.append(["trainings of both", *(str(max(row.seeds for row in of_arm[arm].values())) for arm in arms)])
    for at in (*BUDGETS, "its compute", *(f"exit {k}" for k in range(1, 6)), comparisons.LAST):
        rows = [of_arm[arm].get(arm if at == "its compute" else at) for arm in arms]
        shown = (comparisons.interval(row) if row else "" for row in rows)
        cells.append([at if "exit" in at else f"on {at}", *shown])
    return dx.analysis.markdown(cells)


def grid_of(table: pd.DataFrame) -> list[str]:
    """The grid of images, epochs and teacher: accuracy on val in per cent, a row per training."""
    rows = table[table["data"] == "caltech101"].set_index("run")
    cells = [["images", "epochs", "teacher", *(f"exit {k}" for k in range(1, 7)), *BUDGETS, "the teacher"]]
    for size, epochs, end in product(IMAGES, EPOCHS, ("", "-taught")):
        row = rows.loc[run_name(f"grid-{size}-{epochs}{end}", 0)]
        found = [row[name] for name in (*(f"exit_{k}" for k in range(1, 7)), *(f"accuracy_{at}" for at in BUDGETS))]
        teacher = [rows.loc[run_name(f"grid-{size}", 0), "exit_1"]] if end else []
        shown = [f"{100 * value:.1f}" for value in (*found, *teacher)]
        cells.append([f"{size:,}", str(epochs), "yes" if end else "", *shown, *([] if end else [""])])
    return dx.analysis.markdown(cells)


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

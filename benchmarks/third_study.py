"""The study's third edition, run by run: `scripts/bench third_study`; its protocol: `_third.protocol`.

In: parts of the protocol. Out: a run folder per set, arm and seed under ``--root``; a row per finished run in
``benchmarks/results/third.parquet``, and the comparisons so far in ``third-comparisons.csv``, to be committed as they
end; with ``--write`` all comparisons anew, and those that are complete in the tables of ``benchmarks/EVIDENCE.md`` and
``docs/results.md``. Start it as often as you like: a training goes on at its last epoch, a finished run is never made
again. ``--list`` shows what is left. Test is read once per run, when that run is finished."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
from scipy.stats import false_discovery_control

import dmpo_explore as dx
from _common import comparisons
from _common.command import parser
from _common.comparisons import Comparison
from _common.results import PAGE, RESULTS, renew, write_table
from _common.rows import Rows
from _common.study import make_row
from _third import protocol
from _third.protocol import BUDGETS, DEEP, DROP, ORDERED, OTHER, PARTED, PARTS_OF_STUDY, WHOLE

ROWS = Rows(RESULTS / "third.parquet")

SUMMARY = Path(__file__).parent.parent / "docs" / "results.md"
NAIVE, SINGLE, STATIC = "DMPO and naive exits", "DMPO and a single model", "DMPO and a static net of six blocks"
NAIVE_SINGLE = "naive exits and a single model"
NAMES = {
    "fashion-mnist": "Fashion-MNIST", "trashnet": "TrashNet", "grocery": "groceries", "grocery-shops": "other shops",
    "scenes15": "scenes", "caltech101": "Caltech-101", "birds100": "birds",
    "grocery-cnn": "groceries, CNN", "caltech101-cnn": "Caltech-101, CNN",
}  # fmt: skip
Columns = dict[str, tuple[str, str]]  # title of a column → comparison, endpoint
EARLY, LAST = comparisons.EARLY, comparisons.LAST
OVER_NAIVE: Columns = {
    **{f"naive exits, {at}": (NAIVE, at) for at in ("exit 1", "30 %", "50 %", "70 %", LAST)},
    "six blocks": (STATIC, "static-6"),
}
OVER_FULL: Columns = {
    **{f"DMPO, {at}": (SINGLE, at) for at in ("30 %", "50 %", "70 %", LAST)},
    **{f"naive exits, {at}": (NAIVE_SINGLE, at) for at in ("30 %", LAST)},
}
SUMMARY_OF: Columns = {
    "naive exits,<br>both on 30 %": (NAIVE, "30 %"),
    "naive exits,<br>both on 50 %": (NAIVE, "50 %"),
    "the full model,<br>on 30 %": (SINGLE, "30 %"),
    "the full model,<br>on 50 %": (SINGLE, "50 %"),
    "six blocks,<br>on a budget of their 51 %": (STATIC, "static-6"),
}


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and write the tables after each."""
    given = parser(__doc__)
    given.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS_OF_STUDY)}; default: all")
    given.add_argument("--root", type=Path, default=Path("runs/third"), help="folder of the runs")
    given.add_argument("--write", action="store_true", help="renew comparisons and the pages' tables, and make no run")
    options = given.parse_args(arguments)
    if options.write:
        write_table("third-comparisons", compared(ROWS), RESULTS)
        for page, name, lines in tables(pd.read_csv(RESULTS / "third-comparisons.csv")):
            renew(page, name, "\n".join(lines))
        return 0
    if foreign := {*options.parts} - {*PARTS_OF_STUDY}:
        given.error(f"no part {min(foreign)}; there are {', '.join(PARTS_OF_STUDY)}")
    protocol.register()
    left = [
        (letter, part, name, arm, seed)
        for letter, name, arm, seed in protocol.plan(tuple(options.parts or PARTS_OF_STUDY))
        if not ROWS.has(name + (part := PARTS_OF_STUDY[letter]).suffix, f"{arm}-s{seed}", part.config(name, arm, seed))
    ]
    if options.list:
        print(
            "\n".join(f"{letter} {name}{part.suffix} {arm}-s{seed}" for letter, part, name, arm, seed in left)
            or "every run is there"
        )
        return 0
    for _, part, name, arm, seed in left:
        folder, run, root = name + part.suffix, f"{arm}-s{seed}", options.root / (name + part.suffix)
        os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
        root.mkdir(parents=True, exist_ok=True)
        statics = [static for static in part.arms if static.startswith("static-")] if arm == "dmpo" else []
        rivals = {static: part.config(name, static, seed) for static in statics}
        how = {"image_size": part.reference, "rivals": rivals, "budgets": BUDGETS, "drop": DROP}
        make_row(
            root / run, ROWS, folder, part.config(name, arm, seed), lambda text, at=folder: print(f"{at} {text}"), **how
        )
        write_table("third-comparisons", compared(ROWS), RESULTS)
    return 0


def compared(rows: Rows) -> pd.DataFrame:
    """All comparisons of the protocol whose runs are finished; ``p_adjusted``: by Benjamini-Hochberg, over all."""
    found = comparisons.table(rows, protocol.COMPARISONS, BUDGETS, protocol.planned)
    return found.assign(p_adjusted=false_discovery_control(found["p"]))


def tables(table: pd.DataFrame) -> list[tuple[Path, str, list[str]]]:
    """(page, name of its part, lines) of every table that is written, in points."""
    found = table[~table["preliminary"]].set_index(["comparison", "set", "at"])
    deep = ("exit 1", EARLY, "30 %", LAST)
    return [
        (PAGE, "third-naive", by_set(found, "DMPO less …", OVER_NAIVE)),
        (PAGE, "third-full", by_set(found, "less the full model", OVER_FULL)),
        (PAGE, "third-deep", by_comparison(found, "first less second", (*PARTED, *ORDERED, *OTHER), deep)),
        (SUMMARY, "third-summary", by_set(found, "DMPO less …", SUMMARY_OF, "<br>")),
        (SUMMARY, "third-parts", by_comparison(found, "points", (WHOLE[0], *PARTED), ("30 %", "50 %"), "<br>")),
    ]


def by_set(found: pd.DataFrame, corner: str, columns: Columns, between: str = " ") -> list[str]:
    """A row per data set, a column per comparison and endpoint."""
    cells = [[corner, *columns]]
    for name, title in NAMES.items():
        row = (cell(found, text, name, at, between) for text, at in columns.values())
        cells.append([title.replace(", ", f",{between}"), *row])
    return dx.analysis.markdown(cells)


def by_comparison(
    found: pd.DataFrame, corner: str, shown: tuple[Comparison, ...], ends: tuple[str, ...], between: str = " "
) -> list[str]:
    """A row per comparison, a column per set of `DEEP` and endpoint."""
    places = [(name, at) for name in DEEP for at in ends]
    cells = [[corner, *(f"{NAMES[name]},{between}{at}" for name, at in places)]]
    for text in (comparison.text for comparison in shown):
        cells.append([text.replace(", ", f",{between}"), *(cell(found, text, *place, between) for place in places)])
    return dx.analysis.markdown(cells)


def cell(found: pd.DataFrame, text: str, name: str, at: str, between: str) -> str:
    """Points with their interval; empty while the comparison is not complete."""
    return comparisons.interval(found.loc[text, name, at], between) if (text, name, at) in found.index else ""


if __name__ == "__main__":
    sys.exit(main())

"""The study's third edition, run by run: `scripts/bench third_study`; its protocol: `_third.protocol`.

In: parts of the protocol. Out: a run folder per set, arm and seed under ``--root``; a row per finished run in
``benchmarks/results/third.parquet``, and the comparisons so far in ``third-comparisons.csv``, to be committed as they
end; with ``--write`` those that are complete in the tables of ``benchmarks/EVIDENCE.md`` and ``docs/results.md``. Start
it as often as you like: a training goes on at its last epoch, a finished run is never made again. ``--list`` shows what
is left. Test is read once per run, when that run is finished."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd

import dmpo_explore as dx
from _common import comparisons
from _common.command import parser
from _common.comparisons import Comparison
from _common.results import RESULTS, with_part, write_table
from _common.rows import Rows
from _common.study import make_row
from _third import protocol
from _third.protocol import BUDGETS, DEEP, DROP, OTHER, PARTED, PARTS_OF_STUDY
from dmpo_explore.utils.files import write_text

DONE = "every run is there"
ROWS = Rows(RESULTS / "third.parquet")

PAGE = Path(__file__).parent / "EVIDENCE.md"
SUMMARY = Path(__file__).parent.parent / "docs" / "results.md"
SHOWN = {at: at for at in ("exit 1", comparisons.EARLY, comparisons.LAST, "30 %", "50 %", "70 %")} | {
    "static-6": "at a static net's compute"
}  # endpoint → column of the page's table
NAIVE, SINGLE, STATIC = "DMPO and naive exits", "DMPO and a single model", "DMPO and a static net of six blocks"
COLUMNS = (
    ("naive exits,<br>both on 30 %", NAIVE, "30 %"),
    ("naive exits,<br>both on 50 %", NAIVE, "50 %"),
    ("the full model,<br>on 30 %", SINGLE, "30 %"),
    ("the full model,<br>on 50 %", SINGLE, "50 %"),
    ("six blocks,<br>on a budget of their 51 %", STATIC, "static-6"),
    ("the full model,<br>at the last exit", SINGLE, comparisons.LAST),
)
NAMES = {
    "fashion-mnist": "Fashion-MNIST", "trashnet": "TrashNet", "grocery": "groceries", "grocery-shops": "other shops",
    "scenes15": "scenes", "caltech101": "Caltech-101", "birds100": "birds",
    "grocery-cnn": "groceries,<br>CNN", "caltech101-cnn": "Caltech-101,<br>CNN",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and write the tables after each."""
    given = parser(__doc__)
    given.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS_OF_STUDY)}; default: all")
    given.add_argument(
        "--sets", nargs="+", choices=protocol.SETS, default=[*protocol.SETS], metavar="SET", help="only these"
    )
    given.add_argument("--root", type=Path, default=Path("runs/third"), help="folder of the runs")
    given.add_argument("--write", action="store_true", help="renew the tables of the pages, and make no run")
    options = given.parse_args(arguments)
    if options.write:
        table = pd.read_csv(RESULTS / "third-comparisons.csv")
        for page, name, lines in tables(table):
            write_text(page, with_part(page.read_text(encoding="utf-8"), name, "\n".join(lines)))
        return 0
    if foreign := {*options.parts} - {*PARTS_OF_STUDY}:
        given.error(f"no part {min(foreign)}; there are {', '.join(PARTS_OF_STUDY)}")
    protocol.register()
    left = []
    for letter, name, arm, seed in protocol.plan(tuple(options.parts or PARTS_OF_STUDY)):
        part, config = PARTS_OF_STUDY[letter], PARTS_OF_STUDY[letter].config(name, arm, seed)
        if name in options.sets and not ROWS.has(name + part.suffix, f"{arm}-s{seed}", config):
            left.append((letter, part, name, arm, seed))
    if options.list:
        print(
            "\n".join(f"{letter} {name}{part.suffix} {arm}-s{seed}" for letter, part, name, arm, seed in left) or DONE
        )
        return 0
    for _, part, name, arm, seed in left:
        folder, run, root = name + part.suffix, f"{arm}-s{seed}", options.root / (name + part.suffix)
        os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
        root.mkdir(parents=True, exist_ok=True)
        statics = [static for static in part.arms if static.startswith("static-")] if arm == "dmpo" else []
        rivals = {static: part.config(name, static, seed) for static in statics}
        how = {"image_size": part.reference, "read": "test", "rivals": rivals, "budgets": BUDGETS, "drop": DROP}
        make_row(
            root / run, ROWS, folder, part.config(name, arm, seed), lambda text, at=folder: print(f"{at} {text}"), **how
        )
        write_table("third-comparisons", compared(ROWS), RESULTS)
    return 0


def compared(rows: Rows) -> pd.DataFrame:
    """All comparisons of the protocol whose runs are finished."""
    return comparisons.table(rows, protocol.COMPARISONS, BUDGETS, protocol.planned)


def tables(table: pd.DataFrame) -> list[tuple[Path, str, list[str]]]:
    """(page, name of its part, lines) of every table that is written."""
    return [
        (PAGE, "third", lines_of(table)),
        (SUMMARY, "third-summary", summary_of(table)),
        (SUMMARY, "third-parts", deep_of(table, PARTED)),
        (SUMMARY, "third-other", deep_of(table, OTHER)),
    ]


def lines_of(table: pd.DataFrame) -> list[str]:
    """The table of EVIDENCE.md: comparisons with all seeds that the protocol plans, a row each, in points."""
    shown = table[~table["preliminary"] & table["at"].isin(SHOWN)]
    cells = [["data", "first and second", *SHOWN.values()]]
    for (data_set, text), rows in shown.groupby(["set", "comparison"], sort=False):
        found = {row.at: comparisons.interval(row) for row in rows.itertuples()}
        cells.append([data_set, text, *(found.get(at, "") for at in SHOWN)])
    return dx.analysis.markdown(cells)


def summary_of(table: pd.DataFrame) -> list[str]:
    """The table of docs/results.md: what DMPO gains on each data set, in points."""
    cells = [["DMPO less …", *(column for column, *_ in COLUMNS)]]
    for name, title in NAMES.items():
        rows = table[(table["set"] == name) & ~table["preliminary"]].set_index(["comparison", "at"])
        found = (comparisons.interval(rows.loc[*at], "<br>") if tuple(at) in rows.index else "" for _, *at in COLUMNS)
        cells.append([title, *found])
    return dx.analysis.markdown(cells)


def deep_of(table: pd.DataFrame, shown: tuple[Comparison, ...]) -> list[str]:
    """A table of docs/results.md with some comparisons on the sets `DEEP`, in points."""
    places = [(name, at) for name in DEEP for at in ("exit 1", "30 %", comparisons.LAST)]
    found = table[~table["preliminary"]].set_index(["comparison", "set", "at"])
    cells = [["", *(f"{NAMES[name]},<br>{at}" for name, at in places)]]
    for text in (comparison.text for comparison in shown):
        rows = (found.loc[text, *at] if (text, *at) in found.index else None for at in places)
        cells.append([text, *("" if row is None else comparisons.interval(row, "<br>") for row in rows)])
    return dx.analysis.markdown(cells)


if __name__ == "__main__":
    sys.exit(main())

"""What becomes of runs, records and readers under faults. `scripts/bench faults [--minutes 10] [--seed 0] [--write]`

``--commands N`` instead kills every command N times, gives the very same command again, and compares all files with
those of an undisturbed one; and lets N odd events of every kind happen, such as images that change while they are
recorded. It goes on where ``--rows FILE`` ends. Its table is the second one of the document.

In: nothing; everything is made in temporary folders. Out: a table of trials for each kind of fault, those that ended as
they must, and finished files that were lost; with ``--write`` ``benchmarks/results/faults.csv`` and the table in
benchmarks/FAULTS.md, which describes the kinds. Exit status 1 if a trial did not end as it must.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, between, write_table
from _faults import full_disk, hostile, kill_points, kills, memory, rewritten, trials
from _faults.outcome import Outcome
from dmpo_explore.utils.files import write_text

DOCUMENT = Path(__file__).parent / "FAULTS.md"
BEGIN, END = "<!-- table: scripts/bench faults --write -->", "<!-- end of table -->"
COLUMNS = ("fault", "trials", "survived", "files lost", "besides")


BEGIN_COMMANDS = "<!-- table: scripts/bench faults --commands N --write -->"
TRIALS = Path(__file__).parents[1] / "build" / "fault_trials.csv"


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its name in the table, its share of the time, and what runs it: seconds, seed → `Outcome`.

    ``writes``: whether finished files are at stake.
    """

    title: str
    share: float
    run: Callable[[float, int], Outcome]
    writes: bool = True


KINDS: dict[str, Kind] = {
    "memory": Kind("ten times the images to record", 0.08, lambda seconds, seed: memory.run(), writes=False),
    "images": Kind("hostile image file", 0.12, hostile.images, writes=False),
    "links": Kind("hostile link", 0.15, hostile.links, writes=False),
    "folders": Kind("random edit of a run folder", 0.1, hostile.folders, writes=False),
    "rewritten": Kind("read of a record while it is replaced", 0.05, lambda seconds, seed: rewritten.run(seconds)),
    "disk": Kind("full disk", 0.15, full_disk.run),
    "kill_points": Kind("kill before or after a rename", 0.1, kill_points.run),
    "kills": Kind("kill at a random moment", 0.25, kills.run),
}


def measure(kinds: Mapping[str, Kind], minutes: float, seed: int) -> pd.DataFrame:
    """One row for each kind. A kind that needs less than its share leaves the rest to the later ones."""
    rows: list[dict[str, Any]] = []
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    end, shares = time.monotonic() + 60 * minutes, {name: kind.share for name, kind in kinds.items()}
    for name, kind in kinds.items():
        left = sum(list(shares.values())[len(rows) :])
        seconds = max(0.0, end - time.monotonic()) * shares[name] / left
        print(f"{name}: up to about {seconds:.0f} s, seed {seed}", file=sys.stderr, flush=True)
        began = time.monotonic()
        found = kind.run(seconds, seed)
        for example in found.examples:
            print(f"{name}: {example}", file=sys.stderr, flush=True)
        rows.append(
            {
                "kind": name,
                "fault": kind.title,
                "trials": found.trials,
                "survived": found.survived,
                "lost": found.lost if kind.writes else None,
                "besides": f"skipped: {found.skipped}" if found.skipped else found.note,
                "seed": seed,
                "seconds": round(time.monotonic() - began),
                "load": load,
                "cores": os.cpu_count(),
            }
        )
    return pd.DataFrame(rows).astype({"lost": "Int64"})


def as_markdown(table: pd.DataFrame) -> list[str]:
    """The table as Markdown."""
    cells = [list(COLUMNS)]
    for row in table.to_dict("records"):
        lost = "" if pd.isna(row["lost"]) else f"{row['lost']:,}"
        besides = "" if pd.isna(row["besides"]) else str(row["besides"])
        cells.append([str(row["fault"]), f"{row['trials']:,}", f"{row['survived']:,}", lost, besides])
    return dx.analysis.markdown(cells)


def circumstances(table: pd.DataFrame) -> str:
    """One sentence: seed, time, and what else the machine did."""
    first, minutes = table.iloc[0], table["seconds"].sum() / 60
    beside = "" if pd.isna(first["load"]) else f", beside other work: the load average was {first['load']} at first"
    return f"Seed {first['seed']}, {minutes:.1f} minutes on {first['cores']} cores{beside}."


def table_lines(table: pd.DataFrame) -> list[str]:
    """The table of all kinds, and its circumstances."""
    return [*as_markdown(table), "", circumstances(table)]


def read_table(folder: Path = RESULTS) -> pd.DataFrame:
    """The last table that was written."""
    return pd.read_csv(folder / "faults.csv").astype({"lost": "Int64"})


def commands_as_markdown(table: pd.DataFrame) -> list[str]:
    """The table of `trials.summary` as Markdown, with the sum of all kinds."""
    columns = ["trials", *trials.ENDINGS]
    rows = [[row["kind"], *(f"{row[name]:,}" for name in columns)] for row in table.to_dict("records")]
    rows.append(["all", *(f"{table[name].sum():,}" for name in columns)])
    seeds = sorted({int(seed) for text in table["seeds"] for seed in str(text).split()})
    return [*dx.analysis.markdown([["command", *columns], *rows]), "", f"Seeds: {', '.join(map(str, seeds))}."]


def put_in_document(lines: list[str], begin: str, document: Path = DOCUMENT) -> None:
    """Replace a table in a document."""
    write_text(document, between(document.read_text(encoding="utf-8"), begin, END, "\n".join(lines)))


def commands(names: list[str], number: int, seed: int, rows: Path, write: bool) -> int:
    """Kill commands and repeat them, let odd events happen, print the table, and write it if requested."""
    table = trials.summary(trials.run(names, number, seed, rows))
    lines = commands_as_markdown(table)
    print("\n".join(lines))
    if write:
        write_table("fault_commands", table)
        put_in_document(lines, BEGIN_COMMANDS)
    return 0 if trials.all_well(table) else 1


def main(arguments: list[str] | None = None) -> int:
    """Try every kind, print the table, and write it if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all kinds together, about")
    parser.add_argument("--seed", type=int, default=0)
    kinds_help = f"{', '.join(KINDS)}; with --commands: {', '.join(trials.KINDS)}"
    parser.add_argument("--only", nargs="+", choices=[*KINDS, *trials.KINDS], metavar="KIND", help=kinds_help)
    parser.add_argument("--commands", type=int, metavar="N", help="kill every command, and have every event, N times")
    parser.add_argument("--rows", type=Path, default=TRIALS, metavar="FILE", help="of --commands: a row per trial")
    parser.add_argument("--write", action="store_true", help="keep the table: faults.csv and benchmarks/FAULTS.md")
    options = parser.parse_args(arguments)
    if options.commands:
        return commands(options.only or list(trials.KINDS), options.commands, options.seed, options.rows, options.write)
    if options.write and options.only:
        parser.error("--write keeps all kinds; leave out --only")
    kinds = {name: kind for name, kind in KINDS.items() if not options.only or name in options.only}
    table = measure(kinds, options.minutes, options.seed)
    print("\n".join(as_markdown(table)))
    if options.write:
        write_table("faults", table)
        put_in_document(table_lines(read_table()), BEGIN)
    return 0 if (table["survived"] == table["trials"]).all() and not table["lost"].sum() else 1


if __name__ == "__main__":
    sys.exit(main())

"""Every kind of timm's backbones, the whole way. `scripts/bench backbones [--write]`

In: the smallest architecture of every model class of timm (``benchmarks/results/timm-classes.csv``, renewed by
``--classes``). Out: one row for each: whether it is cut, and if so its blocks, tokens or maps and the exits' shares of
compute; whether it trains a step, its executed exits are the recorded ones, and its export to ONNX answers the same; if
not, the reason. With ``--write`` ``benchmarks/results/backbones.csv``, and from it a part of ``EVIDENCE.md``.

Weights are random, the image side is the nearest to `SIDE` that a backbone takes, exits and their sizes are the
defaults for three exits. Each backbone has a process and `SECONDS` of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pandas as pd

from _common.command import parser
from _common.results import PAGE, RESULTS, renew
from _common.whole_way import in_a_process, smallest_of_each_class

SIDE, SECONDS, PROCESSES = 96, 600, 2  # pixels; for each backbone at most
CLASSES, RESULT = RESULTS / "timm-classes.csv", RESULTS / "backbones.csv"


def main(arguments: list[str] | None = None) -> int:
    """Check the classes, print a line for each, and write the table if requested."""
    given = parser(__doc__)
    given.add_argument("--only", nargs="+", metavar="CLASS", help="these classes of timm; their rows are renewed")
    given.add_argument("--classes", action="store_true", help="only renew the list of classes (minutes)")
    given.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    options = given.parse_args(arguments)
    classes = pd.read_csv(CLASSES)
    asked = classes[classes["class"].isin(options.only)] if options.only else classes
    if options.list:
        print("\n".join(f"{row['class']} {row['backbone']}" for row in asked.to_dict("records")))
        return 0
    if options.classes:
        smallest_of_each_class().to_csv(CLASSES, index=False)
        return 0
    table = pd.DataFrame()
    for table in checked(asked, options):
        if options.write:
            table.to_csv(RESULT, index=False)  # at once: a stop loses no row
    print(summary(table))
    if options.write:
        renew(PAGE, "backbones", f"\n{rendered(table)}\n")
    return 0


def checked(asked: pd.DataFrame, options: argparse.Namespace) -> Iterator[pd.DataFrame]:
    """The table after each class that was asked for; the others have their kept rows."""
    check = partial(in_a_process, side=SIDE, seconds=SECONDS, export=True)
    kept = pd.read_csv(RESULT, keep_default_na=False).to_dict("records") if options.only and RESULT.is_file() else []
    rows = {str(row["class"]): row for row in kept}
    with ThreadPoolExecutor(PROCESSES) as pool:
        for row, found in zip(asked.to_dict("records"), pool.map(check, asked["backbone"]), strict=True):
            rows[row["class"]] = row | found
            print(f"{row['class']} {row['backbone']}: {found['reason'] or found['problem'] or 'whole'}", flush=True)
            yield pd.DataFrame([rows[name] for name in sorted(rows)])


def summary(table: pd.DataFrame) -> str:
    """How many are accepted, and what is wrong with the rest."""
    cut = table[table["layout"] != ""]
    first = cut["shares"].str.partition(" ")[0].replace("", "9").astype(float)
    good = int(((first <= 0.5) & (cut["recorded"] == "yes")).sum())
    exported = int(((cut["exported"] == "yes") & (cut["problem"] == "")).sum())
    return (
        f"Of {len(table)} model classes of timm {len(cut)} are accepted ({len(cut) / len(table):.0%}), "
        f"{int((table['reason'] != '').sum())} refused. {good} have three exits of which the first costs at most half, "
        f"and execute the exits that they record; {exported} are exported to ONNX and answer the same there."
    )


def rendered(table: pd.DataFrame) -> str:
    """The part of the page: the accepted classes, then others with the reason, as Markdown."""
    whole = (table["layout"] != "") & (table["problem"] == "")
    lines = [summary(table), "", f"Accepted: {', '.join(f'`{name}`' for name in table[whole]['class'])}."]
    lines += ["", "Refused, or not finished:", "", "| timm class | smallest | why |", "|---|---|---|"]
    for row in table[~whole].to_dict("records"):
        lines.append(f"| `{row['class']}` | `{row['backbone']}` | {row['reason'] or row['problem']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

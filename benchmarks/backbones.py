"""Every kind of timm's backbones, the whole way. `scripts/bench backbones [--write]`

In: the smallest architecture of every model class of timm (``benchmarks/results/timm-classes.csv``, renewed by
``--classes``). Out: one row for each: whether it is cut, and if so its blocks, tokens or maps and the exits' shares of
compute; whether it trains a step, its executed exits are the recorded ones, and its export to ONNX answers the same; if
not, the reason. With ``--write`` ``benchmarks/results/backbones.csv``, and from it the table of ``BACKBONES.md``.

Weights are random, the image side is the nearest to ``--side`` that a backbone takes, exits and their sizes are the
defaults for three exits. Each backbone has a process and ``--seconds`` of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from _backbones.report import render_summary, with_table
from _backbones.whole_way import in_a_process, smallest_of_each_class
from dmpo_explore.utils.files import write_text

RESULTS = Path(__file__).parent / "results"
CLASSES, RESULT = RESULTS / "timm-classes.csv", RESULTS / "backbones.csv"
PAGE = Path(__file__).parent / "BACKBONES.md"


def main(arguments: list[str] | None = None) -> int:
    """Check the classes, print a line for each, and write the table if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="these classes of timm; their rows are renewed")
    parser.add_argument("--side", type=int, default=96, help="pixels")
    parser.add_argument("--seconds", type=int, default=600, help="for each backbone at most")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-export", dest="export", action="store_false", help="leave the export to ONNX out")
    parser.add_argument("--classes", action="store_true", help="only renew the list of classes (minutes)")
    parser.add_argument("--page", action="store_true", help="only renew benchmarks/BACKBONES.md from the kept result")
    parser.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/BACKBONES.md")
    options = parser.parse_args(arguments)
    if options.classes:
        smallest_of_each_class().to_csv(CLASSES, index=False)
        return 0
    table = pd.read_csv(RESULT, keep_default_na=False) if options.page else pd.DataFrame()
    for table in () if options.page else checked(options):
        if options.write:
            table.to_csv(RESULT, index=False)  # at once: a stop loses no row
    print(render_summary(table))
    if options.write or options.page:
        write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8"), table))
    return 0


def checked(options: argparse.Namespace) -> Iterator[pd.DataFrame]:
    """The table after each class that was asked for; the others have their kept rows."""
    classes = pd.read_csv(CLASSES)
    asked = classes[classes["class"].isin(options.only)] if options.only else classes
    check = partial(in_a_process, side=options.side, seconds=options.seconds, export=options.export)
    rows = {row["class"]: row for row in _kept(options.only)}
    with ThreadPoolExecutor(options.processes) as pool:
        for kind, found in zip(asked.itertuples(), pool.map(check, asked["backbone"]), strict=True):
            rows[str(kind[1])] = {"class": kind[1], "backbone": kind[2], "parameters": kind[3]} | found
            print(f"{kind[1]} {kind[2]}: {found['reason'] or found['problem'] or 'whole'}", file=sys.stderr, flush=True)
            yield pd.DataFrame([rows[name] for name in sorted(rows)])


def _kept(only: list[str] | None) -> list[dict[Any, Any]]:
    if not only or not RESULT.is_file():
        return []
    kept = pd.read_csv(RESULT, keep_default_na=False)
    return kept[~kept["class"].isin(only)].to_dict("records")


if __name__ == "__main__":
    sys.exit(main())

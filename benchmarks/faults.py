"""What becomes of runs, records and readers under faults. `scripts/bench faults [--minutes 10] [--seed 0] [--write]`

In: nothing; everything is made in a temporary folder. Out: a row for each kind of fault, with its trials by how they
ended: *clean* (as without the fault), with a *clear error* (one line of at most 1,000 characters), or as none may: with
a traceback, wrong without a word, with a file lost, or never; with ``--write`` ``benchmarks/results/faults.csv`` and
the table in ``EVIDENCE.md``. Exit status 1 if a trial ended as none may.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

import dmpo_explore as dx
from _common.command import parser
from _common.results import PAGE, renew, write_table
from _faults import hostile_images
from _faults.edited_folders import Edited
from _faults.endings import ENDINGS, Wrong, ending_of
from _faults.writers import NAME, Writers
from dmpo_explore.web.publish import INDEX, publish

LONGEST = 120.0  # seconds of one trial
ODD_NAMES = (
    "</script><script>window.hacked=1</script>", "\u202egnp", "\u0000", "<!--", "{{7*7}}", "'\"`", "\u2028", "a" * 300,
    "\ud83d", "&lt;", "\n\n", "😀", "../" * 9, "-rf", "CON",
)  # fmt: skip
Trial = Callable[[random.Random], str]  # a source of chance → what was done, in words


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Args:
        title: in the table. share: of the time.
        make: a folder of its own, the writers → its trial; None where it cannot be tried here.
        refused: whether a trial may end with a clear error.
    """

    title: str
    share: float
    make: Callable[[Path, Callable[[], Writers]], Trial | None]
    refused: bool = True


def hostile_image(place: Path, writers: Callable[[], Writers]) -> Trial:
    """Every hostile image file, from disk and from bytes."""
    files = hostile_images.QUICK | hostile_images.SLOW

    def trial(chance: random.Random) -> str:
        name = chance.choice([*files])
        found = hostile_images.run({name: files[name]})
        if found["failed"]:
            raise Wrong(f"{name} was neither read nor refused in one line")
        if found["refused"]:
            raise ValueError(f"{name} was refused")
        return name

    return trial


def odd_names(place: Path, writers: Callable[[], Writers]) -> Trial:
    """The published page of a run whose classes have odd names, which must stay text."""
    run = dx.Run(Path(shutil.copytree(writers().made / NAME, place / NAME)))
    plain = (publish(run, place / "plain", pictures=False) / INDEX).read_text(encoding="utf-8")

    def trial(chance: random.Random) -> str:
        names = chance.sample(ODD_NAMES, len(run.class_names))
        for meta in run.path.glob("records/*/meta.json"):
            meta.write_text(json.dumps(json.loads(meta.read_text()) | {"class_names": names}))
        page = (publish(run, place / "page", pictures=False, force=True) / INDEX).read_text(encoding="utf-8")
        if page.count("<script") != plain.count("<script") or "<!--" in page.replace("<!-- ", ""):
            raise Wrong(f"markup of {names}")
        return f"classes {names}"

    return trial


def edited_folder(place: Path, writers: Callable[[], Writers]) -> Trial:
    """Random edits of a run folder with an export in it."""
    whole = Path(shutil.copytree(writers().made / NAME, place / "whole"))
    shutil.copytree(writers().made / "out", whole / "out")
    return Edited(whole, place / "edited").trial


KINDS: dict[str, Kind] = {
    "images": Kind("hostile image file", 0.1, hostile_image),
    "names": Kind("odd names of classes, published", 0.05, odd_names),
    "edits": Kind("random edit of a run folder and its export", 0.1, edited_folder),
    "beside": Kind("another command beside one", 0.15, lambda _, writers: writers().beside, refused=False),
    "disk": Kind(
        "full disk", 0.2, lambda _, writers: writers().full_disk if writers().mounted else None, refused=False
    ),
    "kills": Kind("kill at a random moment", 0.25, lambda _, writers: writers().kill, refused=False),
}


def main(arguments: list[str] | None = None) -> int:
    """Try every kind, print the table, and write it if requested."""
    given = parser(__doc__)
    given.add_argument("--minutes", type=float, default=10.0, help="for all kinds together, about")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}")
    given.add_argument("--write", action="store_true", help="keep the table: faults.csv and benchmarks/EVIDENCE.md")
    options = given.parse_args(arguments)
    kinds = {name: kind for name, kind in KINDS.items() if not options.only or name in options.only}
    if options.list:
        print("\n".join(f"{name}: {kind.title}" for name, kind in kinds.items()))
        return 0
    if options.write and options.only:
        given.error("--write keeps all kinds; leave out --only")
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame(tried(kinds, Path(folder), options.minutes, options.seed))
    print("\n".join(lines_of(table)))
    if options.write:
        write_table("faults", table)
        renew(PAGE, "faults", "\n".join(lines_of(table)))
    return 0 if not bad(table).any() else 1


def tried(kinds: dict[str, Kind], place: Path, minutes: float, seed: int) -> Iterator[dict[str, object]]:
    """A row for each kind, which has its share of the time and one trial at least."""

    @cache
    def writers() -> Writers:
        return Writers(place / "writers")

    try:
        for name, kind in kinds.items():
            (place / name).mkdir()
            trial, counts = kind.make(place / name, writers), dict.fromkeys(ENDINGS, 0)
            began, seconds = time.monotonic(), 60 * minutes * kind.share / sum(one.share for one in kinds.values())
            while trial and (not any(counts.values()) or time.monotonic() - began < seconds):
                chance = random.Random(f"{seed} {name} {sum(counts.values())}")
                ending, words = ending_of(lambda trial=trial, chance=chance: trial(chance), LONGEST)
                counts[ending] += 1
                if ending not in ("clean", "clear error") or (ending == "clear error" and not kind.refused):
                    print(f"{name}, trial {sum(counts.values()) - 1}: {ending}: {words}", file=sys.stderr, flush=True)
            about = {"kind": name, "fault": kind.title, "trials": sum(counts.values()), **counts}
            took = {"seed": seed, "seconds": round(time.monotonic() - began), "cores": os.cpu_count()}
            yield about | {"refused": kind.refused} | took
    finally:
        if writers.cache_info().currsize:
            writers().close()


def bad(table: pd.DataFrame) -> pd.Series:
    """By kind, the trials that ended as none may."""
    return table[[*ENDINGS[2:]]].sum(axis=1) + table["clear error"].where(~table["refused"], 0)


def lines_of(table: pd.DataFrame) -> list[str]:
    """The table of the page, and its circumstances."""
    cells = [["fault", "trials", *ENDINGS]]
    for row in table.to_dict("records"):
        cells.append([str(row["fault"]), *(f"{row[name]:,}" for name in ("trials", *ENDINGS))])
    minutes = table["seconds"].sum() / 60
    about = f"Seed {table['seed'].iloc[0]}, {minutes:.1f} minutes on {table['cores'].iloc[0]} cores."
    return [*dx.analysis.markdown(cells), "", about]


if __name__ == "__main__":
    sys.exit(main())

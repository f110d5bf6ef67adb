"""Mutation score: how many small wrong changes of the library its quick tests notice. `scripts/bench mutants`

In: the files of `AREAS`, the quick tests, and ``.coverage`` of `scripts/bench branch_coverage` on the same code. Out:
``benchmarks/results/mutants.csv``, a row per mutant, and the score by area on stdout: the share of mutants that a test
notices or that never end, with its standard error. Run again, it goes on where it was interrupted.

The sample, a share of all mutants, is drawn by a mutant's name: its function and its statement, not its file. So
``--compare``, on later code, tries the same mutants wherever their statement still stands, and of changed functions
new ones of the same density; it writes ``mutants-now.csv`` (delete it to begin again) and prints both scores.

The changes are those of mutmut 3. The runner is ours: mutmut's own does not say which test noticed a mutant, and it
runs all tests that enter a function, twice the whole suite before the first mutant. A mutant that survives has
survived the 40 tests nearest to it, in 30 seconds of a CPU: the score is a lower bound. To try mutants again, take
their rows out of the file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from _common.command import parser
from _mutants.changes import Mutant, mutants
from _mutants.runner import NearestTests, Runner

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SHARE = 0.09
COLUMNS = ["id", "area", "function", "original", "mutated", "status", "test"]
AREAS = {  # files and folders of the library; where they are merged, name the new ones
    "policies": ["policies"],
    "fitting": ["fitting"],
    "records": ["records"],
    "exit loop": ["inference/exit_loop.py"],
    "FLOPs": ["models/flops.py", "models/counting.py"],
    "splits": ["data/splits.py"],
    "schedules": ["training/schedules.py"],
    "losses": ["training/losses.py"],
    "data check": ["data/check.py", "data/copies.py"],
    "run check": ["runs/check.py"],
    "score files": ["runs/score_files.py", "runs/score_folder.py"],
    "command line": ["cli/entry.py", "cli/evaluate.py"],
}


def files_of(area: str, library: Path = Path("dmpo_explore")) -> list[Path]:
    """The files of an area; FileNotFoundError if it names one that is gone."""
    paths = [library / name for name in AREAS[area]]
    if gone := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(f"{gone[0]} is gone: name the file that holds its code now in AREAS of {__file__}")
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def read(path: Path) -> pd.DataFrame:
    """The rows that are there: mutants that were tried."""
    return pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame(columns=COLUMNS)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """A row per area, then one for all: mutants, how many a test noticed, the share, its standard error."""
    noticed = table.assign(noticed=table["status"].isin(["killed", "timeout"]))
    rows = noticed.groupby("area", sort=False)["noticed"].agg(mutants="size", noticed="sum")
    rows.loc["all"] = rows.sum()
    share = rows["noticed"] / rows["mutants"]
    error = (share * (1 - share) / rows["mutants"]) ** 0.5
    return rows.assign(score=share.round(3), error=error.round(3)).reset_index()  # type: ignore[no-any-return]


def compared(base: pd.DataFrame, now: pd.DataFrame) -> str:
    """Scores of the mutants that still stand, then and now; of new ones, of those that are gone; who escapes now."""
    stand = base["id"].isin(now["id"])
    parts = {"still standing, then": base[stand], "still standing, now": now[now["id"].isin(base["id"])]}
    parts |= {"new": now[~now["id"].isin(base["id"])], "gone": base[~stand]}
    lines = [f"{name}\n{scores(part).to_markdown(index=False)}\n" for name, part in parts.items() if len(part)]
    both = base.merge(now, on="id", suffixes=("", "_now"))
    lost = both[both["status"].isin(["killed", "timeout"]) & both["status_now"].isin(["survived", "untested"])]
    escape = [f"  {row.function}: {row.original} → {row.mutated} (then: {row.test})" for row in lost.itertuples()]
    return "\n".join([*lines, f"noticed then, not now: {len(lost)}", *escape])


def run(sample: dict[Mutant, str], path: Path, tests: list[str]) -> None:
    """Try those mutants, with their areas, that have no row yet; the rows get the order of the sample."""

    def done(mutant: Mutant, status: str, test: str) -> None:
        row = [mutant.id, sample[mutant], mutant.function, mutant.original, mutant.mutated, status, test]
        pd.DataFrame([row], columns=COLUMNS).to_csv(path, mode="a", header=not path.exists(), index=False)
        print(f"{status:9} {mutant.function}: {mutant.original} → {mutant.mutated}  {test}", flush=True)

    known = set(read(path)["id"])
    todo = [mutant for mutant in sample if mutant.id not in known]
    lines = NearestTests(Path(".coverage"), {mutant.file for mutant in todo})
    arguments = ["-m", "not slow and not browser", "-qs", "--timeout", "60", "-p", "no:cacheprovider", *tests]
    if todo and (status := pytest.main(arguments, plugins=[Runner(todo, lines, done)])):
        raise RuntimeError(f"pytest ended with status {status}")
    order = {mutant.id: place for place, mutant in enumerate(sample)}
    read(path).sort_values("id", key=lambda ids: ids.map(order)).to_csv(path, index=False)


def main(arguments: list[str] | None = None) -> int:
    """List, try or compare."""
    given = parser(__doc__)
    given.add_argument("--compare", action="store_true", help="with the scores in mutants.csv, which stays as it is")
    options = given.parse_args(arguments)
    os.chdir(ROOT)
    areas = {file: area for area in AREAS for file in files_of(area)}
    if options.list:
        for file, area in areas.items():
            print(f"{area:12}  {file}")
        return 0
    sample = {mutant: areas[mutant.file] for mutant in mutants(areas, SHARE)}
    name = "mutants-now" if options.compare else "mutants"
    run(sample, RESULTS / f"{name}.csv", ["tests"])
    table = read(RESULTS / f"{name}.csv")
    print(compared(read(RESULTS / "mutants.csv"), table) if options.compare else scores(table).to_markdown(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

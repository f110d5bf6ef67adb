"""Branch coverage of the library by its tests, package by package. `scripts/bench branch_coverage [TEST …]`

In: all tests but those in a browser, in one process, under coverage.py with branches. Out:
``benchmarks/results/coverage.csv``, also on stdout: per package its statements and branches, how many of them ran, and
the share of both together. A branch is one way out of a line that has several. Code that only runs in a process of its
own counts as not run.

``.coverage`` keeps which test ran which line; `scripts/bench mutants` chooses its tests by it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pandas as pd
import pytest

from _common.command import parser

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"  # nothing of the library may be imported before it is watched
WATCHED = "not browser"
COUNTED = {  # by coverage.py → by us
    "num_statements": "statements", "covered_lines": "statements_run",
    "num_branches": "branches", "covered_branches": "branches_run",
}  # fmt: skip


class TestByTest:
    """A plugin of pytest that tells coverage.py which test is running."""

    def __init__(self, running: coverage.Coverage) -> None:
        self.running = running

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.running.switch_context(item.nodeid)
        return (yield)


def by_package(report: dict[str, Any]) -> pd.DataFrame:
    """A row per package, from coverage.py's report in JSON: how many statements and branches it has, how many ran."""
    files = report["files"]
    packages = [(*Path(file).parts[1:-1], "top")[0] for file in files]
    table = pd.DataFrame([found["summary"] for found in files.values()])[[*COUNTED]].rename(columns=COUNTED)
    table = table.groupby(packages).sum().rename_axis("package")
    table.loc["all"] = table.sum()
    ran = table["statements_run"] + table["branches_run"]
    return table.assign(covered=(ran / (table["statements"] + table["branches"])).round(4)).reset_index()


def main(arguments: list[str] | None = None) -> int:
    """Run the tests, write the table; the exit status is that of pytest."""
    given = parser(__doc__)
    given.add_argument("tests", nargs="*", default=["tests"], help="files or folders of tests [tests]")
    options = given.parse_args(arguments)
    if options.list:
        print(f"tests ({WATCHED}) of {', '.join(options.tests)}, then results/coverage.csv")
        return 0
    os.chdir(ROOT)
    running = coverage.Coverage(data_file=".coverage", branch=True, source=["dmpo_explore"])
    running.erase()
    with running.collect():
        status = pytest.main(["-m", WATCHED, "-q", *options.tests], plugins=[TestByTest(running)])
    running.save()
    with tempfile.TemporaryDirectory() as folder:
        running.json_report(outfile=f"{folder}/report.json")
        table = by_package(json.loads(Path(folder, "report.json").read_text(encoding="utf-8")))
    table.to_csv(RESULTS / "coverage.csv", index=False)
    print(table.to_string(index=False))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())

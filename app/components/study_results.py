"""Results of the study, in a checkout in which it has been run: in words, as a figure, and run by run.

In: ``benchmarks/RESULTS.md`` and ``benchmarks/results`` (a wheel has none). Out: one closed section of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile, takewhile
from pathlib import Path

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.state import panels

import dmpo_explore as dx

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIRST = ("core", "headline", "improved", "gpu", "cnn")  # the others follow by name


def show() -> None:
    """One closed section behind the comparison, if there are results."""
    results = BENCHMARKS / "results"
    found = {path.stem.removeprefix("study-"): path for path in sorted(results.glob("study-*.csv"))}
    grids = {grid: found[grid] for grid in dict.fromkeys([*FIRST, *found]) if grid in found}
    second = {path.stem.split("-", 1)[1].removesuffix("-claims"): path for path in results.glob("second-*-claims.csv")}
    if not grids and not second:
        return
    title = "Appendix: the study of DMPO and its parts"
    with st.expander(title, icon=":material/science:", key=panels.STUDY, on_change="rerun") as box:
        if not box.open:
            return
        _words(BENCHMARKS / "RESULTS.md")
        names = [*sorted(second), *(f"{grid} (first edition)" for grid in grids)]
        tabs = iter(st.tabs([messages.escape_markdown(name) for name in names]))
        for study, path in sorted(second.items()):
            with next(tabs):
                _claims(path, study)
                _runs(results / f"second-{study}.csv", study)
        for grid, path in grids.items():
            with next(tabs):
                _gains(results / "gains.csv", grid)
                _runs(path, grid)


def _words(path: Path) -> None:
    """The numbered list at the beginning of RESULTS.md."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    listed = dropwhile(lambda line: not line.startswith("1. "), lines)
    if verdict := list(takewhile(lambda line: line[:1].isdigit(), listed)):
        st.markdown("\n".join(verdict))
    st.caption(
        "Points of test accuracy; in brackets a 95 % interval. All tables and figures, and how arms are compared: "
        "`benchmarks/RESULTS.md`."
    )


def _claims(path: Path, study: str) -> None:
    """What the second edition claims of one data set, as differences with their intervals."""
    with _explained():
        claims = pd.read_csv(path, dtype={"seeds": str})
        at = claims["at"].where(claims["at"].str.endswith("%"), "")  # else the rival's own compute
        questions = claims["text"] + ", " + at
        _figure(claims.assign(question=questions.str.removesuffix(", "), over="images and trainings"), study)


def _gains(path: Path, grid: str) -> None:
    with _explained():
        gains = pd.read_csv(path, dtype={"seeds": str})
        _figure(gains[gains["grid"] == grid], grid)


@contextmanager
def _explained() -> Iterator[None]:
    """Nothing where a file is missing; a message where it is not what it should be."""
    try:
        yield
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        messages.problem("These gains cannot be shown.", error)


def _figure(gains: pd.DataFrame, name: str) -> None:
    if len(gains):
        alt = "Points of test accuracy gained, with 95 % intervals: " + "; ".join(
            f"{question} {messages.signed(points)}"
            for question, points in gains[["question", "points"]].to_numpy().tolist()
        )
        widgets.chart(dx.figures.gains_figure(gains), f"gains {name}", 110 + 34 * len(gains), alt)


def _runs(path: Path, grid: str) -> None:
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        messages.problem("This table cannot be read.", error)
        return
    st.dataframe(rows, hide_index=True, key=f"study {grid}")
    st.caption("Every arm and seed as `scripts/bench` wrote them.")

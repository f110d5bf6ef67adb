"""Results of the ablation study, in a checkout in which it has been run: in words, as a figure, and run by run.

In: ``benchmarks/RESULTS.md`` and ``benchmarks/results`` (a wheel has none). Out: one closed section of the page.
"""

from __future__ import annotations

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
    if not grids:
        return
    title = "Appendix: the ablation study of DMPO's parts"
    with st.expander(title, icon=":material/science:", key=panels.STUDY, on_change="rerun") as box:
        if not box.open:
            return
        _words(BENCHMARKS / "RESULTS.md")
        for tab, (grid, path) in zip(
            st.tabs([messages.escape_markdown(grid) for grid in grids]), grids.items(), strict=True
        ):
            with tab:
                _gains(results / "gains.csv", grid)
                _runs(path, grid)


def _words(path: Path) -> None:
    """The list at the beginning of RESULTS.md."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    listed = dropwhile(lambda line: not line.startswith("- "), lines)
    if verdict := list(takewhile(lambda line: not line or line.startswith(("- ", "|")), listed)):
        st.markdown("\n".join(verdict).strip())
    st.caption(
        "Points of test accuracy; in brackets a 95 % interval over test images. "
        "All tables and figures, and how arms are compared: `benchmarks/RESULTS.md`."
    )


def _gains(path: Path, grid: str) -> None:
    try:
        gains = pd.read_csv(path, dtype={"seeds": str})
        gains = gains[gains["grid"] == grid]
        if len(gains):
            alt = "Points of test accuracy gained, with 95 % intervals: " + "; ".join(
                f"{question} {messages.signed(points)}"
                for question, points in gains[["question", "points"]].to_numpy().tolist()
            )
            widgets.chart(dx.figures.gains_figure(gains), f"gains {grid}", 110 + 34 * len(gains), alt)
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        messages.problem("These gains cannot be shown.", error)


def _runs(path: Path, grid: str) -> None:
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        messages.problem("This table cannot be read.", error)
        return
    st.dataframe(rows, hide_index=True, key=f"study {grid}")
    st.caption("Every arm and seed as `scripts/bench study` wrote them.")

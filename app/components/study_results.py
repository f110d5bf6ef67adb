"""What the study found: differences of accuracy with their 95 % intervals, a tab for each data set and grid.

In: `dx.course.study_table`. Out: one closed section of the page.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.state import panels

import dmpo_explore as dx


def show() -> None:
    """One closed section behind the comparison."""
    title = "Appendix: the study of DMPO and its parts"
    with st.expander(title, icon=":material/science:", key=panels.STUDY, on_change="rerun") as box:
        if not box.open:
            return
        claims, gains = dx.course.study_table("claims"), dx.course.study_table("gains")
        shown = {str(study): found for study, found in claims.groupby("study")}
        shown |= {f"{grid} (first edition)": found for grid, found in gains.groupby("grid")}
        for tab, (name, found) in zip(st.tabs([*shown]), shown.items(), strict=True):
            with tab:
                _chart(found, name)
        st.caption(
            "Points of test accuracy. Tables, trainings and how arms are compared: `benchmarks/RESULTS.md` of the "
            "repository."
        )


def _chart(gains: pd.DataFrame, name: str) -> None:
    alt = "Points of test accuracy gained, with 95 % intervals: " + "; ".join(
        f"{question} {messages.signed(points)}"
        for question, points in gains[["question", "points"]].to_numpy().tolist()
    )
    widgets.chart(dx.figures.gains_figure(gains), f"gains {name}", 110 + 34 * len(gains), alt)

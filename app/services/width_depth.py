"""The width × depth plane of runs on the page Decide: a run and those made from it at every threshold.

In: runs under one budget. Out: the table and figure of `dx.analysis.width_depth`; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.services import own_runs, policies, records, run_styles
from dmpo_explore_app.services.comparison import AT_DEPTH, Side
from dmpo_explore_app.services.records import Stamp

import dmpo_explore as dx


class Plane(NamedTuple):
    """Every (run, threshold), and which run a budget buys."""

    table: pd.DataFrame
    buys: pd.DataFrame

    def bought(self, gflops: float) -> pd.Series[float] | None:
        """The row of the front that this budget buys; None if none is as cheap."""
        front = self.table[self.table["front"] & (self.table["budget"] <= gflops)]
        return None if front.empty else front.iloc[-1]


def family(sides: Sequence[Side]) -> list[Side]:
    """The runs that were made from another of them, and these; empty if there is none."""
    ours = [side for side in sides if not own_runs.is_own(side.point.run)]  # own scores have no config
    able = [side for side in ours if side.record.n_exits > 1 and policies.can_fit(side.point.run)]
    parents = {side.name: side.point.run.config.model.parent for side in able}
    made = {name for name, parent in parents.items() if parent in parents}
    kin = made | {parents[name] for name in made}
    return [side for side in able if side.name in kin]


def plane(sides: Sequence[Side], split: str, policy: str) -> Plane:
    """The plane of a family; a policy that learns, or that a run cannot have, is replaced by confidence."""
    runs = {side.name: side.point.run for side in sides}
    keys = tuple((name, records.stamp(run, run.fitting_split), records.stamp(run, split)) for name, run in runs.items())
    other = dx.POLICIES[policy].learns or any(policies.unavailable_reason(run, split, policy) for run in runs.values())
    return _plane(keys, AT_DEPTH if other else policy)


@st.cache_resource(max_entries=32, show_spinner=False)
def _plane(keys: tuple[tuple[str, Stamp, Stamp], ...], policy: str) -> Plane:
    """By its keys, so that a moved budget computes nothing again: run, what it is chosen on, what it is read on."""
    chosen = {name: records.record_at(stamp) for name, stamp, _ in keys}
    table = dx.analysis.width_depth(chosen, {name: records.record_at(stamp) for name, _, stamp in keys}, policy)
    return Plane(table, dx.analysis.best_buys(table))


def figure(found: Plane, sides: Sequence[Side]) -> go.Figure:
    """`dx.figures.width_depth_figure` in the runs' own colours."""
    names = [side.name for side in sides]
    return dx.figures.width_depth_figure(
        found.table, found.buys, dict(zip(names, run_styles.places(names), strict=True))
    )

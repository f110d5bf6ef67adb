"""Decide: which of several runs to take, on the same images, for what may be lost or spent; below, what differs between
them: settings, learning, classes, budgets, images."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import comparison_panels, decision_panels, run_differences, run_picker, widgets
from dmpo_explore_app.services import comparison
from dmpo_explore_app.services.comparison import Side
from dmpo_explore_app.state import choices, decide_choices, opened_scores, url
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def page() -> None:
    names = opened_scores.without_links(opened_scores.names())
    if not names:
        widgets.no_runs()
        return
    url.follow(decide_choices.KEYS)
    with messages.problems("These runs cannot be compared."):
        workbench(names)


def workbench(names: Sequence[str]) -> None:
    own = choices.chosen_run(names)
    decide_choices.validate_runs(names, lambda: comparison.usual_runs(names, own, opened_scores.load))
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="compared"):
        chosen = st.multiselect(
            "Runs",
            names,
            key=decide_choices.RUNS,
            max_selections=decide_choices.MOST,
            width=640,
            label_visibility="collapsed",
            persist_state="session",
        )
        row = st.container(horizontal=True, gap="small", width="content")
    opened = comparison_panels.open_runs(chosen)
    splits = comparison.common_splits(opened)
    if not splits:
        message = "Choose a run." if not opened else "These runs have no split in common that is recorded."
        st.info(message, icon=":material/compare_arrows:")
        return
    split, policy = choices.validate_split(splits), choices.validate_policy()
    with row:
        run_picker.choose_split(splits)
        run_picker.choose_policy([*choices.rules()], "collapsed")
    if runs := comparison_panels.on_the_same_images(opened, split):
        show(runs, split, policy, row)


def show(runs: Sequence[dx.Run], split: str, policy: str, row: DeltaGenerator) -> None:
    wanted = decision_panels.question(runs, split)
    sides = comparison.in_order([comparison.side(run, split, policy, wanted) for run in runs])
    choice = comparison.choose(sides, wanted)
    with st.container(key="halves"):
        left, right = st.columns([6, 6], gap="medium")
    with left:
        decision_panels.answer(sides, choice, wanted)
        if choice.best is not None:
            decision_panels.take(comparison.side_of(sides, choice.best), split)
        decision_panels.table(sides, choice, wanted)
        st.caption("  \n".join(comparison_panels.remarks(sides, split, policy, wanted)))
    with right:
        charts = {"trade-off": comparison_panels.curves(sides, split, policy, wanted, choice)}
    base = sides[0]
    if len(sides) > 1:
        base = below(sides, split, policy, charts, choice)
    with row:
        comparison_panels.share(sides, base, split, policy, charts)
    decide_choices.write([run.name for run in runs])


def below(
    sides: Sequence[Side], split: str, policy: str, charts: dict[str, go.Figure], choice: dx.analysis.RunChoice
) -> Side:
    """What differs between several runs; the one that the others are compared with."""
    opened = [side.point.run for side in sides]
    run_differences.settings(opened)
    run_differences.learning(opened)
    with st.container(key="charts"):
        by_class, over_budgets = st.columns(2, gap="medium")
    with by_class:
        charts["by class"] = comparison_panels.classes(sides, choice)
    with over_budgets:
        base = comparison_panels.base(sides)
        if figure := comparison_panels.differences(sides, base, split, policy):
            charts["at every budget"] = figure
    comparison_panels.images(sides, base, split)
    return base


page()

"""Compare: several runs on the same images, at the same compute.

In: runs (bundled, under the runs root, and this session's own scores). Out: curves of `dx.trade_off`, accuracy at one
budget with paired intervals (`dx.bootstrap_difference`), accuracy by class, images on which two of them disagree.
Settings in which they differ and how they learned are behind a click. Thresholds are fitted on calibration or val.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import (
    comparison_panels,
    run_picker,
    setting_differences,
    study_results,
    training_comparison,
    widgets,
    width_depth_panel,
)
from dmpo_explore_app.services import comparison
from dmpo_explore_app.state import choices, compare_choices, opened_scores, url
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def page() -> None:
    """Title, choices, and what they show."""
    top = widgets.title_row("Which model gives more for the same compute?", "small")
    st.markdown("**The same budget** for every run with several exits, on the same images.")
    names = opened_scores.without_links(opened_scores.names())
    if not names:
        widgets.no_runs()
        return
    url.follow(compare_choices.KEYS)
    with messages.problems("These runs cannot be compared."):
        workbench(names, top)
    study_results.show()


def workbench(names: Sequence[str], top: DeltaGenerator) -> None:
    """Runs, split and policy; below them the comparison."""
    compare_choices.validate_runs(names, lambda: usual_runs(names))
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="compared"):
        chosen = st.multiselect(
            "Runs",
            names,
            key=compare_choices.RUNS,
            max_selections=compare_choices.MOST,
            width=420,
            help=comparison_panels.RUNS_HELP,
            persist_state="session",
        )
        row = st.container(horizontal=True, gap="medium", width="content")
    opened = comparison_panels.open_runs(chosen)
    splits = comparison.common_splits(opened)
    if not splits:
        message = "Choose at least two runs." if not opened else "These runs have no split in common that is recorded."
        st.info(message, icon=":material/compare_arrows:")
        return
    split, policy = choices.validate_split(splits), choices.validate_policy()
    with row:
        run_picker.split_and_policy(splits, [*choices.rules()])
    runs = comparison_panels.on_the_same_images(opened, split)
    if len(runs) < 2:
        st.info("Choose at least two runs that were recorded on the same images.", icon=":material/compare_arrows:")
        return
    against = compare_choices.validate_against([run.name for run in runs])
    with row:
        st.selectbox(
            "Compare with", [run.name for run in runs], key=compare_choices.AGAINST, width=200, persist_state="session"
        )
    show(runs, split, policy, against, top)


def usual_runs(names: Sequence[str]) -> list[str]:
    """The session's run and others on the same images; where there are none, those that a new session compares."""
    found = comparison.usual_runs(names, choices.chosen_run(names), opened_scores.load)
    return found if len(found) > 1 else comparison.usual_runs(names, choices.usual_run(names), opened_scores.load)


def show(runs: Sequence[dx.Run], split: str, policy: str, against: str, top: DeltaGenerator) -> None:
    """Budget, numbers and curves; then classes and budgets; then images."""
    with st.container(key="halves"):
        left, right = st.columns([5, 7], gap="medium")
    with left:
        budget = comparison_panels.budget(runs, split)
    sides = comparison.in_order([comparison.side(run, split, policy, budget) for run in runs])
    base = next(side for side in sides if side.name == against)
    with left:
        comparison_panels.summary(sides, base, split, policy)
    with right:
        charts = {"trade-off": comparison_panels.curves(sides, split, policy)}
    opened = [side.point.run for side in sides]
    setting_differences.section(opened)
    training_comparison.section(opened)
    with st.container(key="charts"):
        by_class, over_budgets = st.columns(2, gap="medium")
    with by_class:
        charts["by class"] = comparison_panels.classes(sides)
    with over_budgets:
        if figure := comparison_panels.differences(sides, base, split, policy):
            charts["at every budget"] = figure
    if figure := width_depth_panel.panel(sides, split, policy, budget):
        charts["width and depth"] = figure
    with top:
        comparison_panels.share(sides, base, split, policy, charts)
    comparison_panels.images(sides, base, split)
    compare_choices.write([run.name for run in runs])


page()

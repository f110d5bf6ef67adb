"""Run, split and policy: the choices that come first on every page about one record; other runs beside it. A run that
cannot be read leaves its choices on the page, so that another one can be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import job_texts, threshold_controls
from dmpo_explore_app.services import records
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.state import beside, calibration, choices, opened_scores, operating_point, panels, targets

import dmpo_explore as dx

REFRESH = 2.0  # seconds between two looks at a run that is being made


def choose(
    names: Sequence[str],
    controls: Callable[[OperatingPoint], None] = threshold_controls.controls,
    prepare: Callable[[OperatingPoint], object] = bool,
) -> OperatingPoint | None:
    """Validate the choices and draw their row, into which ``controls`` draws the rest; None, with a notice, without a
    record. ``prepare`` validates what they show, so that its notices stand above the row. Raises OSError or ValueError
    where the run cannot be read; its choices have been drawn."""
    name, splits, offered = choices.validate_run(names), [], []
    try:
        run = opened_scores.load(name)
        if splits := run.splits():
            offered = [*choices.rules()]
            split, _ = choices.validate_split(splits), choices.validate_policy()
            policy_name, offered = choices.validate_policy_of(run, split), choices.policies(run, split)
            calibration.validate(run, split, policy_name)
            point = OperatingPoint(run, split, operating_point.validate(run, split, policy_name))
    except (OSError, ValueError):
        draw_choices(names, splits, offered)
        raise
    if not splits:
        draw_choices(names, [], [])
        at_work = _at_work(run)
        st.fragment(_unrecorded, run_every=REFRESH if at_work else None)(run, at_work)
        return None
    prepare(point)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="choices"):
        run_and_split(names, splits)
        policy(point, offered)
        controls(point)
    if point.record.n_exits > 1:
        threshold_controls.caution(run)
    return point


def _at_work(run: dx.Run) -> str:
    """What the run's background training does now, in words; empty where it does nothing."""
    try:
        status = dx.jobs.job_status(dx.jobs.load_job(run.name))
    except (OSError, ValueError):
        return ""
    return job_texts.headline(status) if status.active else ""


def _unrecorded(run: dx.Run, before: str) -> None:
    """Why there is nothing to show yet; the page is drawn again once that changes."""
    name, now = messages.escape_markdown(run.name), _at_work(run)
    if run.splits() or bool(now) != bool(before):
        st.rerun()
    if now:
        text = "It appears here once its first split is recorded."
        messages.notice(f"Run {name} is at work in the background ({now}). {text}")
    else:
        messages.notice(f"Run {name} has no record yet: `dmpo-explore record {run.name}` makes it.")


def check_unchanged(run: dx.Run, split: str, stamp: Stamp) -> None:
    """In a fragment: draw the whole page again where the record or the weights have changed or gone since ``stamp``."""
    try:
        changed = records.stamp(run, split) != stamp
    except FileNotFoundError:
        changed = True
    if changed:
        st.rerun()


def draw_choices(names: Sequence[str], splits: Sequence[str], offered: Sequence[str]) -> None:
    run_and_split(names, splits)
    if splits:
        choose_policy(offered)


def run_and_split(names: Sequence[str], splits: Sequence[str]) -> None:
    st.selectbox("Run", names, key=choices.RUN, width=160, label_visibility="collapsed", persist_state="session")
    if splits:
        choose_split(splits)


def policy(point: OperatingPoint, offered: Sequence[str]) -> None:
    """A popover with everything about the exit policy but its targets; baselines on request."""
    name = point.policy.name
    with st.popover(f"Policy: {messages.escape_markdown(name)}", icon=":material/rule:", key=panels.POLICY):
        found = [other for other in offered if other not in choices.BASELINES or other == name or choices.baselines()]
        choose_policy(found)
        st.caption(f"{dx.POLICIES[name].summary}.")
        if not calibration.unavailable_reason(point.run, point.split, name):
            st.toggle("Calibrated", key=calibration.KEY, persist_state="session")
        if operating_point.per_exit_possible(point.run, point.split, name):
            st.segmented_control("Thresholds", targets.KINDS, key=targets.KIND, required=True, persist_state="session")
        if len(found) < len(offered) or choices.baselines():
            text = f"Offer baselines too: {', '.join(choices.BASELINES)}"
            st.checkbox(text, key=choices.WITH_BASELINES, persist_state="session")


def choose_split(splits: Sequence[str]) -> None:
    options = {"key": choices.SPLIT, "required": True, "label_visibility": "collapsed", "persist_state": "session"}
    st.segmented_control("Split", splits, **options)  # type: ignore[call-overload]


def choose_policy(offered: Sequence[str], label: Literal["visible", "collapsed"] = "visible") -> None:
    st.selectbox("Exit policy", offered, key=choices.POLICY, width=220, label_visibility=label, persist_state="session")


def choose_beside(name: str, others: Mapping[str, dx.Run], several: bool) -> None:
    """Which other curves are drawn too; in the row that is open. ``several``: whether the run has exits to choose."""
    with st.popover("Curves", icon=":material/stacked_line_chart:", key=panels.CURVES):
        if others:
            text = "Other runs recorded on the same images; their compute is a share of this run's plain backbone"
            options = {"format_func": messages.escape_markdown, "key": beside.key(name), "persist_state": "session"}
            st.pills(text, list(others), selection_mode="multi", **options)  # type: ignore[call-overload]
        if several:
            text = "Oracle: the best that any choice of exits reaches"
            st.checkbox(text, key=beside.ORACLE, persist_state="session")

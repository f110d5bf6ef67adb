"""The threshold controls of Your own scores: a policy, and a threshold by hand or fitted on a second folder.

In: a record, its folder, perhaps a folder to fit on. Out: a `dx.Policy`.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import run_picker
from dmpo_explore_app.services import record_folder, slider_data
from dmpo_explore_app.state import choices, own_scores

import dmpo_explore as dx

BUDGETS = (0.2, 0.3, 0.5, 0.7, 1.0)


def choose(record: dx.ExitRecord, stamp: record_folder.FolderStamp, val: Path | None) -> dx.Policy:
    """The chosen policy, with a threshold by hand or for a budget on the second folder."""
    offered = [name for name in choices.RULES if not dx.POLICIES[name].learns]  # those need more than a threshold
    name = own_scores.validate_policy(offered)
    st.selectbox("Exit policy", offered, key=own_scores.POLICY, help=run_picker.POLICY_HELP, persist_state="session")
    stops = record_folder.trade_off(stamp, name)["threshold"].tolist()
    if len(stops) == 1:
        st.info("This record has a single exit: there is nothing to choose.", icon=":material/looks_one:")
        return dx.fit_policy(record, name, threshold=stops[0])
    if val is not None and (fitted := from_budget(record, name, val)):
        return fitted
    return by_hand(record, name, stops)


def from_budget(record: dx.ExitRecord, name: str, val: Path) -> dx.Policy | None:
    """The policy fitted to a budget on the second folder; None if no budget is chosen."""
    costs = record_folder.record(record_folder.stamp(val)).flops_fraction
    offers = [budget for budget in BUDGETS if budget >= max(float(costs[0]), float(record.flops_fraction[0]))]
    own_scores.validate_budget(offers)
    budget = st.pills(
        "Max compute (%), fitted on the second folder",
        offers,
        format_func=lambda value: f"{value:.0%}",
        key=own_scores.BUDGET,
        persist_state="session",
    )
    if budget is None:
        return None
    fitted = record_folder.fitted(record_folder.stamp(val), name, dx.Target.flops(budget))
    threshold = fitted.thresholds[0]
    end = {fitted.threshold_all: 0, fitted.threshold_none: 1}.get(threshold)
    st.caption(f":material/check_circle: Chosen on the second folder. {rule(name, f'{threshold:.4g}', end)}")
    if text := dx.fitting.few_images(record_folder.record(record_folder.stamp(val)).n_images):
        messages.notice(f"Caution: {messages.escape_markdown(text, 400)}.")
    return fitted


def by_hand(record: dx.ExitRecord, name: str, stops: list[float]) -> dx.Policy:
    """The policy with the threshold of a slider over the stops of the curve."""
    labels = [slider_data.EARLIEST, *(f"{stop:.4g}" for stop in stops[1:-1]), slider_data.LATEST]
    key = own_scores.validate_place(name, len(stops))
    place = st.select_slider(
        "Threshold", range(len(stops)), format_func=labels.__getitem__, key=key, persist_state="session"
    )
    end = {0: 0, len(stops) - 1: 1}.get(place)
    st.caption(f":material/back_hand: Set by hand. {rule(name, labels[place], end)}")
    return dx.fit_policy(record, name, threshold=stops[place])


def rule(name: str, threshold: str, end: int | None) -> str:
    """The policy's rule in words; at an end of the slider (0 or 1) what that means."""
    return choices.RULES[name].format(threshold) if end is None else slider_data.ends_in_words(name)[end]

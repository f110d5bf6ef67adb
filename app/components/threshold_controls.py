"""The threshold controls: one threshold or one per exit, target fields, calibration switch, source in words."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.services import own_runs, policies, records
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import operating_point, panels, targets

import dmpo_explore as dx


def controls(point: OperatingPoint) -> None:
    """A popover with the targets, as `operating_point.validate` left them; its button names the one that is set."""
    offered = targets.offers(point.run, point.policy.name)
    if point.record.n_exits == 1 or not offered:
        return
    with st.popover(targets.in_words() or "Targets", icon=":material/target:", key=panels.TARGETS):
        st.caption(f"Thresholds are fitted on {point.run.fitting_split}; the numbers show {point.split}.")
        for key, (low, high) in offered.items():
            field = targets.TARGETS[key]
            st.number_input(
                field.label,
                low,
                high,
                None,
                field.step,
                "%g",
                key=key,
                help=field.help or None,
                on_change=targets.changed,
                args=(key,),
                placeholder="any",
                width=220,
                persist_state="session",
            )


def text_field(point: OperatingPoint) -> None:
    if point.record.n_exits == 1:
        return
    st.text_input(
        "Threshold", key=targets.THRESHOLD, width=230, on_change=operating_point.typed, persist_state="session"
    )
    controls(point)


def caution(run: dx.Run) -> None:
    """A notice where there are too few images to fit thresholds on, in the words of the command line."""
    split = run.fitting_split
    if split in run.splits() and (text := dx.fitting.few_images(records.record(run, split).n_images, split)):
        messages.notice(f"Caution: {messages.escape_markdown(text, 400)}.")


def by_hand(point: OperatingPoint) -> str:
    """The same for thresholds that the reader sets."""
    run, split, policy = point.run, point.split, point.policy
    if point.record.n_exits == 1:
        return ""
    return f"Set by hand, looking at {split}{f'; temperatures from {run.fitting_split}' * bool(policy.temperatures)}."


def source(point: OperatingPoint) -> str:
    """One line of plain text: where the thresholds come from; empty for a single exit."""
    run, split, policy = point.run, point.split, point.policy
    if point.record.n_exits == 1:
        return ""
    if not policies.can_fit(run) and own_runs.is_own(run):
        return "Not fitted: the page Bring your own takes held-out scores to fit it on."
    if not policies.can_fit(run):
        return f"Record val to have thresholds chosen: dmpo-explore record {run.name} --split val"
    try:
        fitted = operating_point.fitted(run, policy.name)
    except (OSError, ValueError):
        fitted = None
    target = targets.chosen()
    if fitted is None or target is None:
        return by_hand(point)
    note = fitted.fitted.get("note", "")
    if note and "certificate" in fitted.fitted:
        return f"On {run.fitting_split} {note}."
    there = OperatingPoint(run, run.fitting_split, fitted).outcome.summary()
    certified = " (certified with 95% confidence)" if "certificate" in fitted.fitted else ""
    result = f"{there['accuracy']:.2%} at {there['flops_fraction']:.1%} compute"
    too = ", temperatures too" if fitted.temperatures else ""
    caution = " The epoch was chosen on val too, so this looks a little better than it is."
    caution *= run.fitting_split == "val" and not own_runs.is_own(run)
    more = f" There {note}." if note else ""
    kept = "" if split == run.fitting_split else f" {policies.kept(point, target)}"
    return f"Chosen on {run.fitting_split}{too}{certified}: {result} there.{kept}{more}{caution}"

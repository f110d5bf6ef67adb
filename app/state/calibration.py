"""The choice "Calibrated": temperature scaling, one temperature per exit, fitted before the policy reads scores. It is
offered only where it could change exits: with logits on both splits, for a policy that reads more than the
prediction."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice, with_code
from dmpo_explore_app.services import policies, records

import dmpo_explore as dx

KEY = "calibrated"  # of the address and of the state


def on() -> bool:
    """Whether it is chosen, after `validate`."""
    return st.session_state.get(KEY) is True


def validate(run: dx.Run, split: str, name: str) -> None:
    """Afterwards the state is what the toggle may hold; what cannot be used gives a notice and is off."""
    given = st.session_state.get(KEY)
    if given not in (None, False, True, "1"):
        notice(f"“Calibrated” in a link is 1 or not there; {escape_markdown(repr(given), 40)} is not used.")
    wanted = given in (True, "1")
    reason = unavailable_reason(run, split, name) or _failure(run, split, name) if wanted else ""
    if reason:
        notice(f"Temperatures cannot be used here, so the scores are as they were recorded: {reason}.")
    st.session_state[KEY] = wanted and not reason


def unavailable_reason(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures would be of no use, as Markdown; empty where they can be chosen."""
    if records.record(run, split).n_exits == 1:
        return "a single exit has nothing to choose"
    if set(dx.POLICIES[name].reads) <= {"prediction"}:
        return f"{escape_markdown(name)} reads no score that they change"
    if not policies.can_fit(run):
        return "they are fitted on calibration or val, and neither is recorded"
    bare = next((of for of in (run.fitting_split, split) if records.record(run, of).logits is None), None)
    return f"they need logits, and the record of {escape_markdown(bare)} has none" if bare else ""


def _failure(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures fail although there are logits, as Markdown (they are read only here); empty if they do not."""
    try:
        records.calibrated(run, split, policies.base(run, split, name, True).temperatures)
    except ValueError as error:
        return with_code(error, 200)
    return ""

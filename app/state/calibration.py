"""The choice "Calibrated": a temperature per exit, fitted on val, before the policy reads the scores.

In: a run, a split, a policy's name, ``st.session_state`` (``calibrated``, perhaps "1" from the address). Out: whether
it is on, its toggle, and what the temperatures do to the calibration error. Ours: it is offered only where it could
change who leaves: logits on val and on what is looked at, and a policy that reads more than the prediction.
"""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.messages import notice, plain
from dmpo_explore_app.services import cache

import dmpo_explore as dx
from dmpo_explore.policies.catalogue import POLICIES

KEY = "calibrated"  # of the address and of the state


def on() -> bool:
    """Whether it is chosen, once `settle` has seen to it."""
    return st.session_state.get(KEY) is True


def settle(run: dx.Run, split: str, name: str) -> None:
    """Afterwards the state is what the toggle may hold; what cannot be used is said and put out."""
    asked = st.session_state.get(KEY)
    if asked not in (None, False, True, "1"):
        notice(f"“Calibrated” in a link is 1 or not there; {plain(repr(asked), 40)} is not used.")
    wanted = asked in (True, "1")
    reason = hindrance(run, split, name) or _failure(run, split, name) if wanted else ""
    if reason:
        notice(f"Temperatures cannot be used here, so the scores are as they were recorded: {reason}.")
    st.session_state[KEY] = wanted and not reason


def hindrance(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures would be of no use, as Markdown; empty where they can be chosen."""
    if cache.record(run, split).n_exits == 1:
        return "a single exit has nothing to choose"
    if set(POLICIES[name].reads) <= {"prediction"}:
        return f"{plain(name)} reads no score that they change"
    if "val" not in run.splits():
        return "they are fitted on val, which is not recorded"
    bare = next((of for of in ("val", split) if cache.record(run, of).logits is None), None)
    return f"they need logits, and the record of {plain(bare)} has none" if bare else ""


def _failure(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures fail although there are logits, as Markdown (they are read only here); empty if they do not."""
    try:
        cache.tempered(run, split, cache.base(run, split, name, True).temperatures)
    except ValueError as error:
        return plain(error)
    return ""

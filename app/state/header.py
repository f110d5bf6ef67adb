"""Session state of the header: its place on the page, whether it is filled, and the point that it falls back to."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app.services import records, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices, opened_scores, operating_point
from dmpo_explore_app.state.targets import THRESHOLD
from streamlit.delta_generator import DeltaGenerator

RUNS = "runs_list"  # of the popover
FIND = "find_runs"
ENTRY = "hidden_entry"  # style.css gives it no room
_PLACE, _FILLED = "_header_place", "_header_filled"


def keep_place(place: DeltaGenerator) -> None:
    """Keep where the header is drawn, for this run of the page and for those of its fragments."""
    st.session_state[_PLACE], st.session_state[_FILLED] = place, False


def place() -> DeltaGenerator | None:
    """Where the header is drawn; None on a page without one. The header counts as filled from then on."""
    st.session_state[_FILLED] = True
    found = st.session_state.get(_PLACE)
    return found if isinstance(found, DeltaGenerator) else None


def filled() -> bool:
    """Whether the page has filled its header."""
    return bool(st.session_state.get(_FILLED))


def usual_point(names: Sequence[str]) -> OperatingPoint | None:
    """What a page without an operating point shows in its header: the session's, else the usual one; None if it fails.

    Nothing of the state is changed.
    """
    if not names:
        return None
    state, usual = st.session_state, choices.usual_run(names)
    name, chosen = state.get(choices.RUN), str(state.get(choices.POLICY))
    try:
        run = opened_scores.load(str(name) if name in opened_scores.names() else usual)
        splits = run.splits()
        split = next(one for one in (state.get(choices.SPLIT), "test", *splits) if one in splits)
        policy = run_facts.usual_policy(run, split)
        if name == run.name and chosen in choices.policies(run, split):
            policy = operating_point.parsed(run, split, chosen, state.get(THRESHOLD)) or policy
        policy.check(records.record(run, split).n_exits)
    except (OSError, ValueError, StopIteration):
        return None
    return OperatingPoint(run, split, policy)


def runs_key(name: str) -> str:
    """Key of the button that shows run ``name``."""
    return f"{RUNS} {name}"


def show_run(name: str) -> None:
    """Choose a run on all pages."""
    choices.choose_run(name)

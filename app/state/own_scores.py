"""Choices of the page Your own scores. None of them is in the address: a link names no folder."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app.services import record_folder
from dmpo_explore_app.state import choices

FOLDER, VAL, POLICY, BUDGET = "own_folder", "own_val", "own_policy", "own_budget"
FIRST_BUDGET = 0.3


def open_folder(folder: str) -> None:
    """Look at another folder."""
    st.session_state[FOLDER] = folder


def open_bundled() -> None:
    """Look at the bundled demo's records."""
    st.session_state[FOLDER], st.session_state[VAL] = record_folder.bundled()


def validate_policy(offered: Sequence[str]) -> str:
    """The chosen policy's name."""
    return choices.validate(POLICY, offered, "confidence", "policy")


def validate_budget(offered: Sequence[float]) -> None:
    """The compute budget: one of ``offered``, or None where the threshold is set by hand."""
    if BUDGET not in st.session_state or st.session_state[BUDGET] not in (None, *offered):
        st.session_state[BUDGET] = FIRST_BUDGET if FIRST_BUDGET in offered else None


def validate_place(policy: str, stops: int) -> str:
    """Key of the policy's slider, which stands at one of so many stops: another folder may have fewer."""
    key = f"own_threshold {policy}"
    st.session_state[key] = min(st.session_state.get(key, stops // 2), stops - 1)
    return key


def suggestion_key(number: int) -> str:
    """Key of the button that opens a suggested folder."""
    return f"own_meant {number}"

"""Run, split and policy: what the reader chose, kept in the session."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app.messages import notice, plain

import dmpo_explore as dx
from dmpo_explore.policies.catalogue import POLICIES

DEFAULT_RUN = "demo"


RULES = {name: kind.rule for name, kind in POLICIES.items() if kind.deployable}


def settle(key: str, options: Sequence[str], default: str, what: str) -> str:
    """The value of widget ``key``, before it is drawn: one of ``options``, or else ``default``, which is said then."""
    value = st.session_state.get(key)
    if value in options:
        return str(value)
    if value is not None:
        notice(f"There is no {what} {plain(repr(value), 60)} here; showing {plain(default)}.")
    st.session_state[key] = default
    return default


def settle_run(names: Sequence[str]) -> str:
    """Which run; ``names`` are all there are, so that no name can lead elsewhere."""
    return settle("run", names, DEFAULT_RUN if DEFAULT_RUN in names else names[0], "run")


def settle_split(splits: Sequence[str]) -> str:
    """Which recorded split."""
    return settle("split", splits, "test" if "test" in splits else splits[0], "split")


def policies(run: dx.Run) -> list[str]:
    """Rules that this run can be asked: those that learn need its val record."""
    has_val = "val" in run.splits()
    return [name for name in RULES if has_val or not POLICIES[name].learns]


def settle_policy(offered: Sequence[str] = tuple(RULES)) -> str:
    """Which rule decides about leaving."""
    return settle("policy", offered, "confidence", "policy")

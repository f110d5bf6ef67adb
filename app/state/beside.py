"""Which runs' curves are drawn beside the chosen run's on Explore; each run has its own choice."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice

BESIDE, ORACLE = KEYS = ("beside", "oracle")  # of the address; whether the oracle's curve is drawn too
_NONE = ","  # in the address: no run


def key(run: str) -> str:
    return f"beside {run}"


def validate(run: str, others: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The chosen ones of ``others``, at first the ``usual`` ones; another name in the address gives a notice."""
    state = st.session_state
    state[ORACLE] = oracle()
    if BESIDE in state:  # an address was followed; None: it holds nothing about it
        given = state.pop(BESIDE)
        wanted = usual if given is None else [part for part in str(given).split(",") if part]
        for other in wanted:
            if other not in others:
                shown = f"{escape_markdown(repr(other), 60)} cannot stand beside {escape_markdown(run)}"
                notice(f"{shown}: there is no such run recorded on the same images.")
        state[key(run)] = list(dict.fromkeys(wanted))
    state[key(run)] = [other for other in state.get(key(run), usual) if other in others]
    return list(state[key(run)])


def chosen(run: str, others: Sequence[str]) -> list[str]:
    return [other for other in st.session_state.get(key(run), []) if other in others]


def oracle() -> bool:
    return st.session_state.get(ORACLE) in (True, "1")


def address(beside: Sequence[str], usual: Sequence[str]) -> dict[str, str]:
    found = {} if list(beside) == list(usual) else {BESIDE: ",".join(beside) or _NONE}
    return found | ({ORACLE: "1"} if oracle() else {})

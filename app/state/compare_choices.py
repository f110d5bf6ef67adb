"""Choices of the page Compare: runs, the one to compare with, the budget, and which images are shown.

In: ``st.session_state`` (perhaps filled from the address). Out: valid choices; what was not valid gives a notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import choices, url

RUNS, AGAINST, COMPUTE, OTHER, SHOW, FIND = "runs", "against", "compute", "other", "show", "find"
GFLOPS = "gflops"  # the budget where backbones differ
KEYS = (RUNS, AGAINST, choices.SPLIT, choices.POLICY, COMPUTE, GFLOPS, OTHER, SHOW, FIND)  # of the address and state
MOST = 6  # runs
SHOWN = {"only a": "Only A correct", "only b": "Only B correct", "both wrong": "Both incorrect, different answers"}
OTHERS = "compare others"  # key of the button that shows other images
_PAGE = "_compare_page"


def validate_runs(names: Sequence[str], usual: Callable[[], Sequence[str]]) -> None:
    """The chosen runs, or the usual ones; from the address they come as one text.

    Only names of runs that are there get through.
    """
    given = st.session_state.get(RUNS)
    if given is None:
        st.session_state[RUNS] = list(usual())
        return
    wanted = list(dict.fromkeys(given.split(",") if isinstance(given, str) else given))
    known = [name for name in wanted if name in names][:MOST]
    for name in wanted:
        if name not in names and name.endswith(own_runs.YOURS):
            notice(f"{escape_markdown(name, 60)}: own scores stay in the session that opened them; they are left out.")
        elif name not in names:
            notice(f"There is no run {escape_markdown(repr(name), 60)} here; it is left out.")
    if known != given:
        st.session_state[RUNS] = known or list(usual())


def validate_against(names: Sequence[str]) -> str:
    """The run to compare with, one of ``names``."""
    return choices.validate(AGAINST, list(names), list(names)[1], "run to compare with among these,")


def validate_compute(low: int, high: int, usual: int) -> None:
    """The compute budget in per cent, from ``low`` to ``high``; at first ``usual``."""
    given = st.session_state.get(COMPUTE)
    try:
        value = usual if given is None else int(given)
        if not low <= value <= high and isinstance(given, str):
            raise ValueError
    except ValueError:
        shown = escape_markdown(repr(given), 40)
        notice(f"The link's compute {shown} must be a whole number from {low} to {high} per cent.")
        value = usual
    st.session_state[COMPUTE] = min(max(value, low), high)


def validate_gflops(stops: Sequence[float], usual: float) -> None:
    """The compute budget in GFLOPs: the nearest of ``stops``, at first to ``usual``."""
    given = st.session_state.get(GFLOPS)
    try:
        value = usual if given is None else float(given)
        if not 0 < value < math.inf:
            raise ValueError
    except ValueError:
        notice(f"The link's compute {escape_markdown(repr(given), 40)} must be a number of GFLOPs above 0.")
        value = usual
    st.session_state[GFLOPS] = min(stops, key=lambda stop: abs(math.log(stop / value)))


def validate_images(others: Sequence[str]) -> tuple[str, str]:
    """The run whose images are compared with the base run's, and which of them are shown."""
    other = choices.validate(OTHER, others, others[0], "other run among these,")
    return other, choices.validate(SHOW, list(SHOWN), "only a", "filter")


def forget() -> None:
    """Begin as on a first visit, from the session's run."""
    for key in (RUNS, AGAINST, OTHER):
        st.session_state.pop(key, None)


def next_page() -> None:
    """Show other images of the same kind."""
    st.session_state[_PAGE] = page() + 1


def page() -> int:
    """The page of images on screen, from 0."""
    return int(st.session_state.get(_PAGE, 0))


def write(runs: Sequence[str]) -> None:
    """Keep the choices in the address."""
    kept = {key: str(value) for key in KEYS if key != RUNS and (value := st.session_state.get(key)) not in (None, "")}
    url.write(**{RUNS: ",".join(runs)}, **kept)

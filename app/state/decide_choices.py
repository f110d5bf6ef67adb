"""Choices of the page Decide: runs, what may be lost or spent against which run, and which images are shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import choices, notes, url

import dmpo_explore as dx

RUNS, AGAINST, OTHER, SHOW = "runs", "against", "other", "show"
MAY, ASKED = "may", ("lose", "spend")  # what is limited
REFERENCE = "reference"  # the run at whose full depth losses and savings are measured
UNIT, BUDGETS = "unit", {"GFLOPs": "gflops", "ms": "ms"}  # unit of the budget → key of its number
COMPUTE = "compute"  # of older links: the budget in per cent of the plain backbone
LIMIT, LOSE, RISK = "limit", "lose", "early_errors"  # which of the two that follow is set
LIMITS = {LOSE: "points of accuracy", RISK: "% early-exit errors"}
KEYS = (
    *(RUNS, MAY, REFERENCE, AGAINST, choices.SPLIT, choices.POLICY, UNIT, *BUDGETS.values(), COMPUTE),
    *(LIMIT, LOSE, RISK, OTHER, SHOW),
)  # of the address and the state
FIRST_LOSS, FIRST_RISK = 2.0, 1.0  # points, per cent
SLIDER, LOSS_SLIDER, TIMES, MEASURE, TIMING = "budget slider", "loss slider", "times", "measure", "timing"  # widgets
COMMAND, EXPORT, ENOUGH = "take command", "take export", "allow more"
MOST_LOSS = 10.0  # points, at the right end of the slider
MOST = 6  # runs
SHOWN = {"only a": "Only A correct", "only b": "Only B correct", "both wrong": "Both incorrect, different answers"}
OTHERS = "decide others"  # key of the button that shows other images
_PAGE, _TIMES = "_decide_page", "_stage_times"


def validate_runs(names: Sequence[str], usual: Callable[[], Sequence[str]]) -> None:
    """The chosen runs that are there, or the usual ones; from the address they come as one text."""
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
    return _one_of(AGAINST, names, names[1])


def _one_of(key: str, names: Sequence[str], usual: str) -> str:
    """A run of ``names``, else the usual one; with a notice, unless another choice took the earlier one away."""
    state, kept = st.session_state, f"_{key}_before"
    if state.get(key) not in names and state.get(key) == state.get(kept):
        state[key] = None
    state[kept] = found = choices.validate(key, names, usual, "compared run")
    return found


def validate_unit() -> str:
    """The unit of the budget: milliseconds as soon as there are new times."""
    if notes.take(notes.TIMED):
        st.session_state[UNIT] = "ms"
    return choices.validate(UNIT, list(BUDGETS), "GFLOPs", "unit")


def validate_budget(unit: str, low: float, usual: float, reference: float) -> float:
    """The budget in ``unit``, at first ``usual``; ``reference``: GFLOPs of the plain backbone, of which older links
    have a share."""
    state, key = st.session_state, BUDGETS[unit]
    if share := _number(COMPUTE, 0.0, "per cent"):
        usual = float(f"{share / 100 * reference:.9g}")
    state[COMPUTE] = None
    value = _number(key, usual, unit) or usual
    state[key], state[SLIDER] = value, max(value, low)
    return value


def slid(unit: str, least: float) -> None:
    """In a callback: take over the slider's place in three digits, ``least`` at its left end."""
    st.session_state[BUDGETS[unit]] = max(float(f"{st.session_state[SLIDER]:.3g}"), least)


def allow(points: float) -> None:
    """In a callback: let so much be lost."""
    st.session_state[LOSE] = points


def validate_may() -> str:
    """What is limited, at first what may be lost; links of earlier versions have a budget alone."""
    budgets = any(st.session_state.get(key) is not None for key in (COMPUTE, *BUDGETS.values()))
    return choices.validate(MAY, ASKED, "spend" if budgets else "lose", "question")


def validate_reference(names: Sequence[str], usual: str) -> str:
    return _one_of(REFERENCE, names, usual)


def validate_limit() -> tuple[float | None, float | None]:
    """What may be lost, or instead the bound on early-exit errors; fractions."""
    if choices.validate(LIMIT, list(LIMITS), LOSE, "limit") == LOSE:
        value = min(_number(LOSE, FIRST_LOSS, "points"), 99.0)
        st.session_state[LOSE], st.session_state[LOSS_SLIDER] = value, min(value, MOST_LOSS)
        return value / 100, None
    value = min(_number(RISK, FIRST_RISK, "per cent"), 99.0) or FIRST_RISK
    st.session_state[RISK] = value
    return None, value / 100


def slid_loss() -> None:
    """In a callback: take over the place of the slider of points."""
    st.session_state[LOSE] = round(st.session_state[LOSS_SLIDER], 1)


def _number(key: str, usual: float, unit: str) -> float:
    """A number from the address or its field, 0 or more; ``usual`` in the place of none."""
    given, value = st.session_state.get(key), usual
    try:
        value = usual if given is None else float(given)
        if not 0 <= value < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        notice(f"The link's {key} {escape_markdown(repr(given), 40)} must be a number of {unit}, 0 or more.")
        value = usual
    st.session_state[key] = value
    return value


def times() -> dict[str, dx.runs.StageTimes]:
    """Run → its stages' times on the device that was timed last."""
    found: dict[str, dx.runs.StageTimes] = st.session_state.setdefault(_TIMES, {})
    return found


def keep_times(found: dx.runs.StageTimes) -> None:
    """Keep the times of a run, which become the unit; those of another device are dropped."""
    same = {name: one for name, one in times().items() if one.device == found.device}
    st.session_state[_TIMES] = same | {found.run: found}
    notes.write(notes.TIMED, True)


def receive_times() -> None:
    """Read the file with another device's times that was sent."""
    file = st.session_state.get(TIMING)
    notes.write(notes.TIMES, None)
    try:
        if file is not None:
            keep_times(dx.runs.read_stage_times(file.getvalue()))
    except ValueError as error:
        notes.write(notes.TIMES, f"These times cannot be used: {error}.")


def validate_images(others: Sequence[str]) -> tuple[str, str]:
    """The run whose images are compared with the base run's, and which of them are shown."""
    other = _one_of(OTHER, others, others[0])
    return other, choices.validate(SHOW, list(SHOWN), "only a", "filter")


def forget() -> None:
    """Begin as on a first visit, from the session's run."""
    for key in (RUNS, REFERENCE, AGAINST, OTHER):
        st.session_state.pop(key, None)


def drop(name: str) -> None:
    """A run has been closed: it is compared with nothing any more."""
    state = st.session_state
    if isinstance(runs := state.get(RUNS), list):
        state[RUNS] = [run for run in runs if run != name] or None
    for key in (REFERENCE, AGAINST, OTHER):
        if state.get(key) == name:
            state[key] = None


def next_page() -> None:
    st.session_state[_PAGE] = page() + 1


def page() -> int:
    return int(st.session_state.get(_PAGE, 0))


def write(runs: Sequence[str]) -> None:
    kept = {key: str(value) for key in KEYS if key != RUNS and (value := st.session_state.get(key)) not in (None, "")}
    url.write(**{RUNS: ",".join(runs)}, **kept)

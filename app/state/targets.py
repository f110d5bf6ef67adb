"""The target that thresholds are fitted to: its number fields, their ranges, and their `dx.Target`."""

from __future__ import annotations

import math
from typing import NamedTuple

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services import policies, records
from dmpo_explore_app.state import calibration

import dmpo_explore as dx

THRESHOLD, KIND = "threshold", "kind"  # thresholds as text, which is in the address too; one for all exits or one each
KINDS = ("one", "per exit")
MOST_POINTS = 99.0  # a command takes fewer than 100
FIRST = 100 * dx.fitting.DEFAULT_TARGET.value  # points below the best exit, on a first visit


class TargetField(NamedTuple):
    """A number field of the threshold controls, in per cent or points, and the kind of its `dx.Target`."""

    kind: str
    label: str
    words: str
    step: float
    help: str = ""

    def target(self, value: float, *, per_exit: bool, calibrate: bool) -> dx.Target:
        if self.kind == "risk":
            return dx.Target.risk("too_early", epsilon=value / 100, calibrate=calibrate)
        make = {"flops": dx.Target.flops, "accuracy_drop": dx.Target.accuracy_drop, "near_best": dx.Target.near_best}
        return make[self.kind](value / 100, per_exit=per_exit, calibrate=calibrate)


TARGETS = {  # key of the address and of the widget → field
    "budget": TargetField("flops", "Max compute (%)", "compute ≤ {:g}%", 1.0),
    "drop": TargetField("accuracy_drop", "Max points below the last exit", "≤ {:g} pt below the last exit", 0.1),
    "near_best": TargetField("near_best", "Max points below the best exit", "≤ {:g} pt below the best exit", 0.1),
    "risk": TargetField(
        "risk",
        "Max early-exit error (%)",
        "early-exit error ≤ {:g}%",
        0.1,
        "Risk control (Learn then Test), with 95% confidence. An early-exit error is an image that is incorrect where "
        "it exits although the last exit is correct.",
    ),
}


def offers(run: dx.Run, name: str) -> dict[str, tuple[float, float]]:
    """Targets that can be fitted on a record of the run, with their least and greatest value."""
    if not policies.can_fit(run):
        return {}
    costs = 100 * records.record(run, run.fitting_split).flops_fraction
    found = {"budget": (math.ceil(10 * costs[0]) / 10, math.ceil(10 * costs[-1]) / 10)}
    found |= dict.fromkeys(("drop", "near_best"), (0.0, MOST_POINTS))
    if not per_exit() and dx.POLICIES[name].deployable:
        found["risk"] = (0.01, 100.0)
    return found


def offered_budget(run: dx.Run, name: str, share: float) -> str:
    """A compute budget in per cent, as the address has it, within the range that is offered."""
    low, high = offers(run, name)["budget"]
    return f"{min(max(100 * share, low), high):g}"


def per_exit() -> bool:
    return st.session_state.get(KIND) == "per exit"


def chosen() -> dx.Target | None:
    """The target that is set, if there is one; raises ValueError for a value that no target can have."""
    for key, field in TARGETS.items():
        value = st.session_state.get(key)
        if value is not None:
            each = per_exit() and field.kind != "risk"
            return field.target(value, per_exit=each, calibrate=calibration.on())
    return None


def in_words() -> str:
    values = ((field.words, st.session_state.get(key)) for key, field in TARGETS.items())
    return next((words.format(value) for words, value in values if value is not None), "")


def clear() -> None:
    st.session_state.update(dict.fromkeys(TARGETS))


def validate(run: dx.Run, name: str) -> None:
    """Values within the offered ranges, at most one of them."""
    state, offered, found = st.session_state, offers(run, name), False
    for key, field in TARGETS.items():
        given, value = state.get(key), None
        try:
            value = None if given is None or found else round(float(given), 4)
        except ValueError:
            notice(f"“{field.label}” must be a number, not {escape_markdown(repr(given), 40)}.")
        if value is not None and (key not in offered or not offered[key][0] <= value <= offered[key][1]):
            if key in offered:
                low, high = offered[key]
                notice(f"“{field.label}” lies between {low:g} and {high:g} here, so {value:g} is not used.")
            value = None
        state[key], found = value, found or value is not None


def changed(key: str) -> None:
    """The number field ``key`` was changed: no other target is set, and the thresholds are fitted again."""
    state = st.session_state
    if state[key] is not None:
        state.update({other: None for other in TARGETS if other != key})
        state[THRESHOLD] = None


def target_of_a_first_visit(run: dx.Run, name: str) -> None:
    """Set the default target where none is set and the run has a record to fit on."""
    state = st.session_state
    if "near_best" in offers(run, name) and all(state[key] is None for key in TARGETS):
        state["near_best"] = FIRST

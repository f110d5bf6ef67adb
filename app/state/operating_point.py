"""Which thresholds: set by hand, one for all exits or one each, or solved on val from a wish.

In: a run, a split, a policy's name, ``st.session_state`` (perhaps filled from the address). Out: a `dx.Policy`. What is
set is kept as text, ``threshold``: numbers with commas between, as the address has it. Everything that writes it (the
slider, the curve, a link) is checked by `settle` before anything is drawn. Ours: when run or policy change, a lit wish
is solved anew and thresholds set by hand become the one of equal compute.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import notice, plain
from dmpo_explore_app.services import cache
from dmpo_explore_app.state import calibration

import dmpo_explore as dx
from dmpo_explore.policies.catalogue import POLICIES

KINDS = ("one", "per exit")
COCKPIT = "cockpit"  # key of the component


class Wish(NamedTuple):
    """An inverse control: ``name`` is what `loading.fitted` calls it, values are per cent."""

    name: str
    label: str
    help: str


WISHES = {
    "budget": Wish(
        "flops",
        "At most % compute",
        "The most accurate thresholds on **val** whose mean compute there stays within this share of the plain "
        "backbone's. The numbers show what they give on the split that you look at.",
    ),
    "drop": Wish(
        "accuracy_drop",
        "Lose at most, points",
        "The cheapest thresholds on **val** that lose at most so many points of accuracy there against the last exit. "
        "The numbers show what they give on the split that you look at.",
    ),
    "risk": Wish(
        "too_early",
        "Too early at most %",
        "A guarantee: the cheapest threshold of which **val** proves, with 95% confidence, that at most so many per "
        "cent of all images are answered wrongly although the last exit would be right.",
    ),
}
FIRST_BUDGET = 30.0


def offers(run: dx.Run, name: str) -> dict[str, tuple[float, float]]:
    """Wishes that can be asked of the run's val record, with the least and the greatest per cent."""
    if "val" not in run.splits():
        return {}
    costs = 100 * cache.record(run, "val").flops_fraction
    found = {"budget": (math.ceil(10 * costs[0]) / 10, math.ceil(10 * costs[-1]) / 10), "drop": (0.0, 100.0)}
    if st.session_state.get("kind") != "per exit" and POLICIES[name].deployable:
        found["risk"] = (0.01, 100.0)
    return found


def per_exit_possible(run: dx.Run, split: str, name: str) -> bool:
    """Whether each exit can have a threshold of its own."""
    return cache.record(run, split).n_exits > 2 and POLICIES[name].per_exit_thresholds


def lit(run: dx.Run, name: str) -> dx.Policy | None:
    """The policy fitted on val to the wish that is lit, if one is; raises ValueError if it cannot be met."""
    per_exit = st.session_state.get("kind") == "per exit"
    for key, wish in WISHES.items():
        value = st.session_state.get(key)
        if value is not None:
            return cache.fitted(run, name, wish.name, value / 100, per_exit and key != "risk", calibration.on())
    return None


def settle(run: dx.Run, split: str, name: str) -> dx.Policy:
    """The policy to show; afterwards the state is what its widgets may hold."""
    state, base = st.session_state, cache.base(run, split, name, calibration.on())
    n_exits, fresh = cache.record(run, split).n_exits, state.pop("_fresh", False)
    if fresh:  # an address says all: what was on screen before has no say
        state.pop("_dial", None)
        state.pop("_compute", None)
    if n_exits == 1:  # nothing to settle, and the next run should find what the last one left
        if fresh:
            state.update(dict.fromkeys(("threshold", *WISHES)) | {"kind": "one"})
        return replace(base, thresholds=(base.threshold_none,))
    asked = _parsed(base, state.get("threshold"), n_exits, said=fresh or state.pop("_said", False))
    if fresh:
        state["kind"] = KINDS[asked is not None and len(asked.thresholds) > 1]
    state["kind"] = state.get("kind") or "one"
    if not per_exit_possible(run, split, name):
        state["kind"] = "one"
    _settle_wishes(run, name)
    of = (run.name, name, calibration.on())
    if asked is not None and (fresh or state.get("_dial") == (of, state["kind"])):
        policy = _wished_or_by_hand(run, asked)
    else:
        policy = _anew(run, split, base, asked, state.get("_dial", ("",))[0] == of)
    state["_dial"], state["threshold"] = (of, state["kind"]), text(policy)
    return policy


def text(policy: dx.Policy) -> str:
    """Its thresholds as the address has them."""
    return ",".join(str(threshold) for threshold in policy.thresholds)


def _parsed(base: dx.Policy, asked: object, n_exits: int, said: bool) -> dx.Policy | None:
    if not isinstance(asked, str):
        return None
    try:
        policy = replace(base, thresholds=tuple(float(number) for number in asked.split(",")))
        policy.check(n_exits)
    except ValueError as error:
        if said:
            notice(f"These thresholds cannot be used; showing the usual one. {plain(error)}")
        return None
    return policy


def _settle_wishes(run: dx.Run, name: str) -> None:
    """Numbers within what is offered, at most one of them."""
    state, offered, found = st.session_state, offers(run, name), False
    for key, wish in WISHES.items():
        asked, value = state.get(key), None
        try:
            value = None if asked is None or found else round(float(asked), 4)
        except ValueError:
            notice(f"“{wish.label}” must be a number, not {plain(repr(asked), 40)}.")
        if value is not None and (key not in offered or not offered[key][0] <= value <= offered[key][1]):
            if key in offered:
                low, high = offered[key]
                notice(f"“{wish.label}” lies between {low:g} and {high:g} here, so {value:g} is not used.")
            value = None
        state[key], found = value, found or value is not None


def lit_or_none(run: dx.Run, name: str) -> dx.Policy | None:
    """As `lit`; a wish that cannot be met is said and put out."""
    try:
        return lit(run, name)
    except (OSError, ValueError) as error:
        notice(f"The wish cannot be met. {plain(error)}")
        st.session_state.update(dict.fromkeys(WISHES))
        return None


def _wished_or_by_hand(run: dx.Run, asked: dx.Policy) -> dx.Policy:
    """The lit wish's policy, which says what it was fitted to, if these are its thresholds; else no wish is lit."""
    fitted = lit_or_none(run, asked.name)
    if fitted is not None and fitted.thresholds == asked.thresholds:
        return fitted
    st.session_state.update(dict.fromkeys(WISHES))
    return asked


def _anew(run: dx.Run, split: str, base: dx.Policy, asked: dx.Policy | None, only_kind: bool) -> dx.Policy:
    """For another run, policy or kind: the lit wish's thresholds, the same for all exits, or that of equal compute."""
    state, n_exits = st.session_state, cache.record(run, split).n_exits
    first = asked is None and state.get("_dial") is None
    if first and all(state[key] is None for key in WISHES):
        low, high = offers(run, base.name).get("budget", (1.0, 0.0))
        state["budget"] = FIRST_BUDGET if low <= FIRST_BUDGET <= high else None
    policy = lit_or_none(run, base.name)
    if policy is None and only_kind:
        policy = asked
    if policy is None:
        table = cache.trade_off(run, split, base.name, calibration.on())
        costs = table["flops_fraction"]
        place = int((costs - state.get("_compute", float(costs.mean()))).abs().argmin())
        policy = replace(base, thresholds=(table["threshold"].tolist()[place],))
    if state["kind"] == "per exit" and len(policy.thresholds) == 1:
        return replace(policy, thresholds=policy.thresholds * (n_exits - 1))
    if state["kind"] == "one" and len(policy.thresholds) > 1:
        return replace(policy, thresholds=(float(np.median(policy.thresholds)),))
    return policy


def set_by_hand(thresholds: str, above: str = "") -> None:
    """What a slider, the curve or a command asks for; `settle` checks it.

    Args:
        above: key of the fragment that drew `controls`, where that is another than the slider's: in a callback, it is
            drawn anew instead if they change.
    """
    state, before = st.session_state, _controls()
    state.update(dict.fromkeys(WISHES))
    state["threshold"], state["_said"] = thresholds, True
    state["kind"] = KINDS["," in thresholds]
    state["_dial"] = (state.get("_dial", ("",))[0], state["kind"])
    if above and _controls() != before:
        st.rerun(above)


def _controls() -> list[object]:
    return [st.session_state.get(key) for key in ("kind", *WISHES)]


def moved(above: str = "") -> None:
    """The component's thumb was let go; ``above`` as in `set_by_hand`."""
    event = getattr(st.session_state.get(COCKPIT), "moved", None)
    if isinstance(event, dict) and isinstance(event.get("threshold"), str):
        st.session_state["_seq"] = event["seq"] if isinstance(event.get("seq"), int) else 0
        set_by_hand(event["threshold"][:500], above)


def wished(key: str) -> None:
    state = st.session_state
    if state[key] is not None:
        state.update({other: None for other in WISHES if other != key})
        state["threshold"] = None

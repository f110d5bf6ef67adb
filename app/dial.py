"""The threshold: a slider, and its inverse "at most this compute" and "lose at most so much", solved on val.

In: a run, a split, a policy's name, ``st.session_state``. Out: a `dx.Policy`. The slider's stops are `dx.trade_off`'s:
evenly spread over compute, from "all at exit 1" to "none early" for every policy, so that the same place costs about
the same. A threshold that comes from val or from the address is one more stop. Ours: when run or policy change, a lit
wish is solved anew and a threshold set by hand becomes the one of equal compute.
"""

from __future__ import annotations

import bisect

import streamlit as st

import dmpo_explore as dx
import loading
from widgets import RULES, notice, plain

BUDGETS = (0.2, 0.3, 0.5, 0.7)  # of the plain backbone's compute
DROPS = (0.0, 0.005, 0.01, 0.02)  # of accuracy against the last exit
FIRST_WISH = {"budget": 0.3, "drop": None}
WISHES = {"budget": "flops", "drop": "accuracy_drop"}
EARLIEST, LATEST = "all at exit 1", "none early"


def threshold_dial(run: dx.Run, split: str, policy: str) -> dx.Policy:
    """Slider and pills, of what `settle_threshold` settled."""
    stops = loading.trade_off(run, split, policy)["threshold"].tolist()
    if len(stops) == 1:
        st.info("This run has a single exit: there is nothing to choose.", icon=":material/looks_one:")
        return dx.fit_policy(loading.record(run, split), policy, threshold=stops[0])
    stops = _with_stop(stops, st.session_state["threshold"])
    st.session_state["threshold"] = _nearest(stops, st.session_state["threshold"])
    labels = dict(zip(stops, _labels(stops), strict=True))
    chosen = st.select_slider(
        "Threshold",
        stops,
        format_func=lambda stop: labels.get(stop, str(stop)),
        key="threshold",
        on_change=_forget_wishes,
        persist_state="session",
    )
    where = {stops[0]: f"Everybody leaves at exit 1 ({policy} is not asked).", stops[-1]: "Nobody leaves early."}
    st.caption(where.get(chosen, RULES[policy].format(labels[chosen])))
    _wish_pills(run, policy)
    return dx.fit_policy(loading.record(run, split), policy, threshold=chosen)


def _offers(run: dx.Run) -> dict[str, list[float]]:
    """Wishes that can be fulfilled on the run's val record; none if it has no such record."""
    if "val" not in run.splits():
        return {}
    costs = loading.record(run, "val").flops_fraction
    return {"budget": [b for b in BUDGETS if costs[0] <= b < costs[-1]], "drop": list(DROPS)}


def wish(run: dx.Run, policy: str) -> dx.Policy | None:
    """The policy fitted on val to the wish that is lit, if one is."""
    for key, name in WISHES.items():
        value = st.session_state.get(key)
        if value is not None:
            return loading.fitted(run, policy, name, value)
    return None


def settle_threshold(run: dx.Run, split: str, policy: str) -> None:
    """Before the slider is drawn, make its value a number: the address's, the lit wish's, or that of equal compute."""
    state, here, offers = st.session_state, (run.name, policy), _offers(run)
    table, asked = loading.trade_off(run, split, policy), state.get("threshold")
    if len(table) == 1:  # a single exit: nothing to settle, and the next run should find what the last one left
        state["threshold"] = None if isinstance(asked, str) else asked
        return
    if isinstance(asked, str):
        try:
            state["threshold"] = dx.fit_policy(loading.record(run, split), policy, threshold=float(asked)).thresholds[0]
        except ValueError as error:
            notice(f"The link's threshold cannot be used; showing the usual one. {plain(error)}")
            asked = None
        else:
            _light_wish(run, policy, offers)
            state["_dial"] = here
            return
    if asked is None:
        state.update(FIRST_WISH)
        state.pop("_compute", None)
    elif state.get("_dial") == here:
        return
    state.update({key: None for key in WISHES if state.get(key) not in offers.get(key, [])})
    state["_dial"], fitted = here, wish(run, policy)
    if fitted:
        state["threshold"] = fitted.thresholds[0]
    else:
        costs = table["flops_fraction"]
        nearest = (costs - state.get("_compute", float(costs.mean()))).abs().argmin()
        state["threshold"] = table["threshold"].tolist()[nearest]


def _light_wish(run: dx.Run, policy: str, offers: dict[str, list[float]]) -> None:
    """Light the wish whose solution the threshold is; put the others out."""
    state = st.session_state
    state.update(dict.fromkeys(WISHES))
    for key, name in WISHES.items():
        for value in offers.get(key, []):
            if loading.fitted(run, policy, name, value).thresholds[0] == state["threshold"]:
                state[key] = value
                return


def _forget_wishes() -> None:
    st.session_state.update(dict.fromkeys(WISHES))


def _fulfil(key: str, run: dx.Run, policy: str) -> None:
    state = st.session_state
    if state[key] is not None:
        state.update({other: None for other in WISHES if other != key})
        try:
            state["threshold"] = loading.fitted(run, policy, WISHES[key], state[key]).thresholds[0]
        except (OSError, ValueError):  # the run has gone or changed; drawing the page says so
            state[key] = None


def _wish_pills(run: dx.Run, policy: str) -> None:
    """The inverse controls, a row of pills each."""
    offers = _offers(run)
    if not offers:
        st.caption(f"Record val to choose thresholds from a wish: `dmpo-explore record {plain(run.name)} --split val`")
        return
    texts = {"budget": "Or at most this compute", "drop": "Or lose at most, in points"}
    formats = {"budget": lambda v: f"{v:.0%}", "drop": lambda v: f"{100 * v:g}"}
    helps = {
        "budget": "The most accurate threshold on **val** whose mean compute there stays within this share of the "
        "plain backbone's. The cards show what it gives on the split that you look at.",
        "drop": "The cheapest threshold on **val** that loses at most so many points of accuracy there against the "
        "last exit. The cards show what it gives on the split that you look at.",
    }
    with st.grid(2, min_column_width=180):
        for key in WISHES:
            if offers[key]:
                st.pills(
                    texts[key],
                    offers[key],
                    format_func=formats[key],
                    key=key,
                    help=helps[key],
                    on_change=_fulfil,
                    args=(key, run, policy),
                    persist_state="session",
                )


def _with_stop(stops: list[float], value: float) -> list[float]:
    """``stops`` (rising or falling) with ``value`` in its place; outside the ends it is not put in."""
    sign = 1 if stops[0] < stops[-1] else -1
    place = bisect.bisect_left([sign * stop for stop in stops], sign * value)
    if place in (0, len(stops)) or stops[place] == value:
        return stops
    return [*stops[:place], value, *stops[place:]]


def _nearest(stops: list[float], value: float) -> float:
    return min(stops, key=lambda stop: abs(stop - value))


def _labels(stops: list[float]) -> list[str]:
    """A short text for each stop, three decimals or as many as tell it from its neighbours; words at the ends."""
    texts = []
    for i, stop in enumerate(stops):
        near = stops[max(0, i - 1) : i] + stops[i + 1 : i + 2]
        digits = next((d for d in range(3, 9) if all(f"{stop:.{d}f}" != f"{n:.{d}f}" for n in near)), 9)
        texts.append(str(stop) if float(stop).is_integer() or digits == 9 else f"{stop:.{digits}f}")
    return [EARLIEST, *texts[1:-1], LATEST]

"""The controls of the exit threshold: slider or number fields, targets, calibration switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from dmpo_explore_app.components.threshold_slider import Cockpit
from dmpo_explore_app.services import cache
from dmpo_explore_app.state.calibration import KEY, hindrance
from dmpo_explore_app.state.operating_point import KINDS, WISHES, lit, offers, per_exit_possible, set_by_hand, wished

import dmpo_explore as dx

HELP = (
    "One temperature per exit, fitted on **val**, makes each exit as sure as it is right; the policy then reads those "
    "scores. Answers stay the same, who leaves where may change."
)


def toggle(run: dx.Run, split: str, name: str) -> None:
    """The settled choice, where there is one; in the row that is open."""
    if not hindrance(run, split, name):
        st.toggle("Calibrated", key=KEY, help=HELP, persist_state="session")


def controls(run: dx.Run, split: str, name: str) -> None:
    """Kind of thresholds and the wishes, of what `settle` settled; in the row that is open."""
    if cache.record(run, split).n_exits == 1:
        return
    if per_exit_possible(run, split, name):
        st.segmented_control(
            "Thresholds",
            KINDS,
            key="kind",
            required=True,
            persist_state="session",
            help="One threshold for all exits, or one of its own for every exit but the last.",
        )
    for key, (low, high) in offers(run, name).items():
        st.number_input(
            WISHES[key].label,
            low,
            high,
            None,
            1.0 if key == "budget" else 0.1,
            "%g",
            key=key,
            help=WISHES[key].help,
            on_change=wished,
            args=(key,),
            placeholder="any",
            width=160,
            persist_state="session",
        )


def native(data: Cockpit, above: str = "") -> None:
    """The same sliders of Streamlit's own: they commit when they are let go. ``above`` as in `set_by_hand`."""
    for i, dial in enumerate(data["dials"]):
        key = f"dial {i}"
        st.session_state[key] = dial["place"]
        places = range(len(dial["labels"]))
        st.select_slider(
            dial["name"], places, format_func=_label_of(dial["labels"]), key=key, on_change=_slid, args=(data, i, above)
        )
    st.caption(data["rule"].replace("{}", "the threshold"))


def _label_of(labels: Sequence[str]) -> Callable[[int], str]:
    return lambda place: labels[place] if place < len(labels) else str(place)


def _slid(data: Cockpit, i: int, above: str) -> None:
    places = [dial["place"] for dial in data["dials"]]
    places[i] = st.session_state[f"dial {i}"]
    set_by_hand(",".join(dial["stops"][place] for dial, place in zip(data["dials"], places, strict=True)), above)


def source(run: dx.Run, split: str, policy: dx.Policy) -> str:
    """One line of plain text: where the thresholds come from."""
    if "val" not in run.splits():
        return f"Record val to have thresholds chosen: dmpo-explore record {run.name} --split val"
    try:
        fitted = lit(run, policy.name)
    except (OSError, ValueError):
        fitted = None
    if fitted is None:
        return f"Set by hand, looking at {split}{'; temperatures from val' if policy.temperatures else ''}."
    val = cache.record(run, "val")
    there = dx.summarise(val, fitted.exits(val))
    note = fitted.fitted.get("note")
    if note:
        return f"On val {note}."
    proved = " (proved with 95% confidence)" if "certificate" in fitted.fitted else ""
    given = f"{there['accuracy']:.2%} at {there['flops_fraction']:.1%} compute"
    too = ", temperatures too" if fitted.temperatures else ""
    return f"Chosen on val{too}{proved}: {given} there. The numbers show {split}."

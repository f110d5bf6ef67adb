"""The choice "Calibrated": a temperature per exit, fitted on val, before the policy reads the scores.

In: a run, a split, a policy's name, ``st.session_state`` (``calibrated``, perhaps "1" from the address). Out: whether
it is on, its toggle, and what the temperatures do to the calibration error. Ours: it is offered only where it could
change who leaves: logits on val and on what is looked at, and a policy that reads more than the prediction.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.components.widgets import notice, plain
from dmpo_explore_app.services import cache

import dmpo_explore as dx
from dmpo_explore.analysis.calibration import calibration_table
from dmpo_explore.policies.catalogue import POLICIES

KEY = "calibrated"  # of the address and of the state
HELP = (
    "One temperature per exit, fitted on **val**, makes each exit as sure as it is right; the policy then reads those "
    "scores. Answers stay the same, who leaves where may change."
)


def on() -> bool:
    """Whether it is chosen, once `settle` has seen to it."""
    return st.session_state.get(KEY) is True


def settle(run: dx.Run, split: str, name: str) -> None:
    """Afterwards the state is what the toggle may hold; what cannot be used is said and put out."""
    asked = st.session_state.get(KEY)
    if asked not in (None, False, True, "1"):
        notice(f"“Calibrated” in a link is 1 or not there; {plain(repr(asked), 40)} is not used.")
    wanted = asked in (True, "1")
    reason = hindrance(run, split, name) or _failure(run, split, name) if wanted else ""
    if reason:
        notice(f"Temperatures cannot be used here, so the scores are as they were recorded: {reason}.")
    st.session_state[KEY] = wanted and not reason


def hindrance(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures would be of no use, as Markdown; empty where they can be chosen."""
    if cache.record(run, split).n_exits == 1:
        return "a single exit has nothing to choose"
    if set(POLICIES[name].reads) <= {"prediction"}:
        return f"{plain(name)} reads no score that they change"
    if "val" not in run.splits():
        return "they are fitted on val, which is not recorded"
    bare = next((of for of in ("val", split) if cache.record(run, of).logits is None), None)
    return f"they need logits, and the record of {plain(bare)} has none" if bare else ""


def _failure(run: dx.Run, split: str, name: str) -> str:
    """Why temperatures fail although there are logits, as Markdown (they are read only here); empty if they do not."""
    try:
        cache.tempered(run, split, cache.base(run, split, name, True).temperatures)
    except ValueError as error:
        return plain(error)
    return ""


def toggle(run: dx.Run, split: str, name: str) -> None:
    """The settled choice, where there is one; in the row that is open."""
    if not hindrance(run, split, name):
        st.toggle("Calibrated", key=KEY, help=HELP, persist_state="session")


def explain(run: dx.Run, split: str, policy: dx.Policy) -> None:
    """What it does in a sentence, and every exit's calibration error before and after, where it can be chosen."""
    if hindrance(run, split, policy.name):
        return
    temperatures = policy.temperatures or cache.base(run, split, policy.name, True).temperatures
    st.markdown(
        "**Calibrated** divides each exit's logits by a temperature fitted on val (least negative log-likelihood) "
        "before the policy reads them, so that of the answers given with 80% confidence about 80% are right. The "
        f"expected calibration error on {plain(split)}, the mean distance between the two:"
    )
    st.table(errors(cache.record(run, split), temperatures), hide_index=True, width="content")


def errors(record: dx.ExitRecord, temperatures: tuple[float, ...]) -> pd.DataFrame:
    """A row per exit as text: its temperature, and its expected calibration error without and with it."""
    table = calibration_table(record, temperatures)
    before, after = (table[table["when"] == when] for when in ("before", "after"))
    return pd.DataFrame(
        {
            "exit": after["exit"].astype(str).tolist(),
            "temperature": [f"{t:.3f}" for t in after["temperature"]],
            "error before": [f"{error:.2%}" for error in before["ece"]],
            "error after": [f"{error:.2%}" for error in after["ece"]],
        }
    )

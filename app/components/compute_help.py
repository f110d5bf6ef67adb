"""How compute is counted and where thresholds come from, one click away.

In: a run, a split, the policy on screen. Out: a popover; what is in it is made when it is opened.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.messages import plain
from dmpo_explore_app.services import cache
from dmpo_explore_app.state.calibration import hindrance

import dmpo_explore as dx
from dmpo_explore.analysis.calibration import calibration_table


def popover(run: dx.Run, split: str, policy: dx.Policy) -> None:
    """The button, and behind it the explanation."""
    with st.popover("What is counted", icon=":material/help:", key="explained", on_change="rerun") as box:
        if box.open:
            explain(run, split, policy)


def explain(run: dx.Run, split: str, policy: dx.Policy) -> None:
    """FLOPs, thresholds, the exits in a table, and temperatures where there can be any."""
    record = cache.record(run, split)
    meta = record.meta
    st.markdown(
        f"**Compute** is counted in FLOPs ({plain(meta.flops_convention)}). Leaving at an exit costs everything that "
        "has run so far: embedding, blocks, tuning, and every bypass and predictor already asked. Shares are relative "
        "to the *plain backbone*: the same network with one linear predictor at its end and nothing added, at the "
        f"same image size ({meta.reference_flops / 1e9:.3g} GFLOPs an image). A run's own full depth may therefore "
        "exceed 100%.\n\n"
        "**Thresholds** that answer a wish (at most so much compute, lose at most so many points) are fitted on val, "
        "images held out from training, and applied unchanged to test. Moving the slider while looking at test is for "
        "exploring; a number to report comes from val.\n\n"
        "**The oracle bound** knows the labels: no choice of exits is right more often for its compute. It is there "
        "to show how much room is left, not for use."
    )
    st.table(exits(record), hide_index=True, width="content")
    explain_calibration(run, split, policy)
    size = f"{meta.image_size} px" if meta.image_size else "unknown size"
    st.caption(f"Model: {plain(meta.model)} · {size} · recorded {plain(meta.created or 'at an unknown time')}")


def exits(record: dx.ExitRecord) -> pd.DataFrame:
    """One row an exit, as text: where it stands, what leaving there costs, how often it is right."""
    meta, accuracy = record.meta, record.correct.mean(axis=0)
    return pd.DataFrame(
        {
            "exit": [str(k) for k in range(1, record.n_exits + 1)],
            "after block": [str(block) for block in meta.exit_blocks],
            "GFLOPs": [f"{flops / 1e9:.3g}" for flops in meta.flops],
            "share of the plain backbone": [f"{share:.1%}" for share in record.flops_fraction],
            "accuracy if all left here": [f"{share:.2%}" for share in accuracy],
        }
    )


def explain_calibration(run: dx.Run, split: str, policy: dx.Policy) -> None:
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

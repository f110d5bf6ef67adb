"""How compute is counted and where thresholds come from, one click away.

In: an `OperatingPoint`. Out: a popover; its inside is made when it is opened.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import policies
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import panels
from dmpo_explore_app.state.calibration import unavailable_reason

import dmpo_explore as dx


def popover(point: OperatingPoint) -> None:
    """The button, and behind it the explanation."""
    with st.popover("What is counted", icon=":material/help:", key=panels.EXPLAINED, on_change="rerun") as box:
        if box.open:
            explain(point)


def explain(point: OperatingPoint) -> None:
    """FLOPs, thresholds, the exits in a table, and temperatures where there can be any."""
    record = point.record
    meta = record.meta
    st.markdown(
        f"**Compute** is counted in FLOPs ({escape_markdown(meta.flops_convention)}). An image that exits at an exit "
        "costs everything that has run so far: embedding, blocks, tuning, and every bypass and predictor up to there. "
        "Shares are relative to the *plain backbone*: the same network with one linear predictor at its end and "
        f"nothing added, at the same image size ({meta.reference_flops / 1e9:.3g} GFLOPs an image). A run's own full "
        "depth may therefore exceed 100%.\n\n"
        "**Thresholds** for a target (max compute, max accuracy drop, max early-exit error) are fitted on val, "
        "images held out from training, and applied unchanged to test. Moving the slider while looking at test is for "
        "exploring; a number to report comes from val.\n\n"
        "**The oracle bound** uses the labels: no choice of exits is correct more often for its compute. It shows how "
        "much room is left and is not for use."
    )
    st.table(exits(record), hide_index=True, width="content")
    explain_calibration(point)
    size = f"{meta.image_size} px" if meta.image_size else "unknown size"
    st.caption(
        f"Model: {escape_markdown(meta.model)} · {size}, images {point.run.config.model.resizing} · "
        f"recorded {escape_markdown(meta.created or 'at an unknown time')}"
    )


def exits(record: dx.ExitRecord) -> pd.DataFrame:
    """One row per exit, as text: its block, the compute up to there, its accuracy over all images."""
    meta, accuracy = record.meta, record.correct.mean(axis=0)
    return pd.DataFrame(
        {
            "exit": [str(k) for k in range(1, record.n_exits + 1)],
            "after block": [str(block) for block in meta.exit_blocks],
            "GFLOPs": [f"{flops / 1e9:.3g}" for flops in meta.flops],
            "share of the plain backbone": [f"{share:.1%}" for share in record.flops_fraction],
            "accuracy if all exit here": [f"{share:.2%}" for share in accuracy],
        }
    )


def explain_calibration(point: OperatingPoint) -> None:
    """Temperature scaling in words, and every exit's calibration error before and after, where it can be chosen."""
    run, split, policy = point
    if unavailable_reason(run, split, policy.name):
        return
    temperatures = policy.temperatures or policies.base(run, split, policy.name, True).temperatures
    st.markdown(
        "**Calibrated** divides each exit's logits by a temperature fitted on val (least negative log-likelihood) "
        "before the policy reads them, so that of the predictions with 80% confidence about 80% are correct. The "
        f"expected calibration error on {escape_markdown(split)}, the mean distance between the two:"
    )
    st.table(errors(point.record, temperatures), hide_index=True, width="content")


def errors(record: dx.ExitRecord, temperatures: tuple[float, ...]) -> pd.DataFrame:
    """One row per exit, as text: its temperature, and its expected calibration error without and with it."""
    table = dx.analysis.calibration_table(record, temperatures)
    before, after = (table[table["when"] == when] for when in ("before", "after"))
    return pd.DataFrame(
        {
            "exit": after["exit"].astype(str).tolist(),
            "temperature": [f"{t:.3f}" for t in after["temperature"]],
            "error before": [f"{error:.2%}" for error in before["ece"]],
            "error after": [f"{error:.2%}" for error in after["ece"]],
        }
    )

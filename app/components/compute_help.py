"""How compute is counted and where thresholds come from, in a popover."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import own_runs, policies, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import panels
from dmpo_explore_app.state.calibration import unavailable_reason

import dmpo_explore as dx


def popover(point: OperatingPoint) -> None:
    with st.popover("What is counted", icon=":material/help:", key=panels.EXPLAINED, on_change="rerun") as box:
        if box.open:
            explain(point)


def explain(point: OperatingPoint) -> None:
    """FLOPs, thresholds, the exits in a table, and temperatures where there can be any."""
    record, meta = point.record, point.record.meta
    own = own_runs.is_own(point.run)
    fitted_on = "the held-out scores" if own else point.run.fitting_split
    size = f"{meta.reference_flops / 1e9:.3g} GFLOPs an image"
    of = "the last exit" if meta.reference_flops == meta.flops[-1] else "the reference_flops"
    given = f"**Compute** is what you gave for each exit; shares are relative to {of} ({size})."
    counted = (
        f"**Compute** is counted in FLOPs ({escape_markdown(meta.flops_convention, 400)}): everything that has run "
        "when an image exits, bypasses and predictors too. Shares are relative to the *plain backbone*, the same "
        f"network with one linear predictor at its end ({size}), so a run's own full depth may exceed 100%."
    )
    st.markdown(
        f"{given if own else counted}\n\n"
        f"**Thresholds** for a target are fitted on {fitted_on} and applied unchanged to test. Moving the slider while "
        "looking at test is for exploring; a number to report comes from a fit.\n\n"
        "**The oracle bound** uses the labels: no choice of exits is correct more often for its compute."
    )
    st.table(exits(record), hide_index=True, width="content")
    explain_failure_prediction(record)
    explain_calibration(point)
    size = f"{meta.image_size} px" if meta.image_size else "unknown size"
    resizing = "" if own else f", images {point.run.config.model.resizing}"
    created = escape_markdown(meta.created or "at an unknown time")
    st.caption(f"Model: {escape_markdown(meta.model)} · {size}{resizing} · recorded {created}")


def exits(record: dx.ExitRecord) -> pd.DataFrame:
    """One row per exit, as text: its block, the compute up to there, its accuracy over all images."""
    meta, accuracy = record.meta, record.correct.mean(axis=0)
    as_trained = [flops / meta.reference_flops for flops in meta.flops_trained]
    return pd.DataFrame(
        {
            "exit": [str(k) for k in range(1, record.n_exits + 1)],
            **({"after block": [str(block) for block in blocks]} if (blocks := run_facts.blocks(record)) else {}),
            "GFLOPs": [f"{flops / 1e9:.3g}" for flops in meta.flops],
            "share": [f"{share:.1%}" for share in record.flops_fraction],
            **({"as trained": [f"{share:.1%}" for share in as_trained]} if as_trained else {}),
            "accuracy if all exit here": [f"{share:.2%}" for share in accuracy],
        }
    )


def explain_failure_prediction(record: dx.ExitRecord) -> None:
    """Early-exit failure prediction in words, and of every exit but the last beside its calibration error."""
    if record.n_exits == 1:
        return
    st.markdown(
        "**Early-exit failure prediction** (EEFP, [arXiv 2508.21495](https://arxiv.org/abs/2508.21495)): how well the "
        "confidence of an exit separates images that may exit there, as it is correct or no later exit is, from the "
        "others. 1: some threshold stops exactly these; ½: no better than chance."
    )
    table = dx.analysis.failure_prediction_table(record)
    shown = {
        "exit": table["exit"].astype(str).tolist(),
        "may exit": [f"{share:.1%}" for share in table["may_exit"]],
        "EEFP": [f"{area:.3f}" for area in table["eefp"]],
        "calibration error": [f"{error:.2%}" for error in table["ece"]],
    }
    st.table(pd.DataFrame(shown), hide_index=True, width="content")


def explain_calibration(point: OperatingPoint) -> None:
    """Temperature scaling in words, and every exit's calibration error before and after, where it can be chosen."""
    run, split, policy = point.run, point.split, point.policy
    if unavailable_reason(run, split, policy.name):
        return
    temperatures = policy.temperatures or policies.base(run, split, policy.name, True).temperatures
    st.markdown(
        f"**Calibrated** divides each exit's logits by a temperature, fitted on {run.fitting_split}, so that about 80% "
        f"of the predictions with 80% confidence are correct. Expected calibration error on {escape_markdown(split)}:"
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

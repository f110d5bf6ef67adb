"""Your own scores: a record folder of any model; its problems, or its curve, its exits and a threshold.

In: paths that the reader types; they never come from the address. Out: `dx.ExitRecord.problems`, numbers of `dx.apply`,
curves of `dx.trade_off`. Nothing is written, no model runs.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import folder_panels, folder_threshold, share, widgets
from dmpo_explore_app.services import code_export, record_folder
from dmpo_explore_app.state import own_scores
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def page() -> None:
    """Title, paths; then the problems or the numbers; how to write a folder."""
    top = widgets.title_row("Look at any model's scores", "small")
    st.markdown(
        "Bring the outputs of **your own early-exit model** at each of its exits: a folder with labels, scores and a "
        "few facts. The app reads it in place, on the machine it runs on; nothing is uploaded or changed."
    )
    text, val_text = paths()
    if text.strip():
        with messages.problems("This folder cannot be opened."):
            folder = record_folder.find(text)
            if folder_panels.report(folder):
                workbench(folder, folder_panels.val_record(val_text, folder), top)
    folder_panels.recipe(opened=not text.strip())


def paths() -> tuple[str, str]:
    """The two folders, as typed."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        text = st.text_input(
            "Record folder",
            key=own_scores.FOLDER,
            placeholder="/home/me/my-records/test",
            width=420,
            persist_state="session",
            help="A folder with meta.json, labels.npy and scores/. Press Enter to open it.",
        )
        val_text = st.text_input(
            "Folder to choose thresholds on (optional)",
            key=own_scores.VAL,
            placeholder="/home/me/my-records/val",
            width=420,
            persist_state="session",
            help="Scores of the same model on other, held-out images.",
        )
        st.button("Try it with a bundled record", on_click=own_scores.open_bundled, icon=":material/science:")
    if not access.is_private():
        st.caption("From here the app opens only folders under its runs root, such as `demo/records/test`.")
    return text, val_text


def workbench(folder: Path, val: Path | None, top: DeltaGenerator) -> None:
    """Left the threshold and its numbers, right the curve and the images by exit; ``top`` is the title's row."""
    stamp = record_folder.stamp(folder)
    record = record_folder.record(stamp)
    folder_panels.summary(record)
    with st.container(key="halves"):
        left, right = st.columns([5, 7], gap="medium")
    with left:
        policy = folder_threshold.choose(record, stamp, val)
        outcome = dx.apply(policy, record)
        widgets.headline(outcome.summary())
    with right:
        curve = record_folder.trade_off(stamp, policy.name)
        charts = {"trade-off": folder_panels.trade_off(outcome, curve), "exits": folder_panels.histogram(outcome)}
    table = record_folder.exits_table(outcome)
    with top:
        share.popover(
            f"{record.meta.data}-{record.meta.split}",
            {"thresholds": policy} if record.n_exits > 1 else {},
            {"exits": lambda: table},
            {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
            lambda: code_export.folder_code(folder, policy, val),
            link=False,
        )
    folder_panels.exits(record, table)


page()

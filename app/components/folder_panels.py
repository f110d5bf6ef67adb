"""Parts of Bring your own for scores: the problems of a record folder, what a record holds, and how to write one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.services import record_folder
from dmpo_explore_app.state import opened_scores, panels

import dmpo_explore as dx

LEAST_FLOPS = 1e5  # of a whole model; smaller numbers are shares, or costs in another unit


def report(folder: Path) -> bool:
    """Show every problem of the folder; whether it is a valid record."""
    problems = record_folder.problems(record_folder.stamp(folder))
    if not problems:
        return True
    count = "One thing keeps" if len(problems) == 1 else f"{len(problems)} things keep"
    lines = [f"- {messages.with_code(problem.replace(f'{folder}/', ''), 300)}" for problem in problems]
    st.error("\n".join([f"**{count} this folder from being a record**", "", *lines]), icon=":material/rule_folder:")
    name = messages.escape_markdown(record_folder.name_of(folder))
    st.caption(f"Folder: {name}. Correct it and press R; the folder is read again.")
    if meant := record_folder.records_below(folder):
        st.markdown("Did you mean one of the records in it?")
        with st.container(horizontal=True, gap="small"):
            for i, path in enumerate(meant):
                name, key = messages.escape_markdown(path.relative_to(folder)), panels.key(opened_scores.MEANT, i)
                st.button(name, key=key, on_click=opened_scores.open_folder, args=(record_folder.name_of(path),))
    return False


def val_record(text: str, folder: Path) -> Path | None:
    """The folder to fit thresholds on, if it is a record of the same exits and classes; else None and a notice."""
    if not text.strip():
        return None
    path = record_folder.find(text)
    problems = record_folder.problems(record_folder.stamp(path))
    if problems:
        first = messages.with_code(problems[0], 300)
        messages.notice(f"The second folder is not a record ({len(problems)} to correct): {first}")
        return None
    ours, theirs = (record_folder.record(record_folder.stamp(p)).meta for p in (folder, path))
    if (ours.exit_blocks, ours.class_names) != (theirs.exit_blocks, theirs.class_names):
        messages.notice("The second folder has other exits or other classes: thresholds cannot be fitted on it.")
        return None
    if path == folder:
        messages.notice("Both folders are the same: thresholds would be fitted on the images that measure them.")
    elif theirs.split == "test":
        messages.notice(
            "The second folder is a test record: thresholds fitted on test look better there than they are."
        )
    return path


def summary(record: dx.ExitRecord, held_out: dx.ExitRecord | None) -> None:
    meta = record.meta
    data, split, model = map(messages.escape_markdown, (meta.data, meta.split, meta.model))
    text = f"{dx.runs.understood(record)}: {data} {split}, model {model}."
    more = f" Thresholds are fitted on {held_out.n_images:,} held-out images." if held_out is not None else ""
    st.success(text + more, icon=":material/check_circle:")
    for doubt in [text for one in (record, held_out) if one is not None for text in dx.runs.doubts(one)]:
        messages.notice(f"These scores look wrong: {messages.escape_markdown(doubt)}")
    if meta.flops[-1] < LEAST_FLOPS:
        numbers = ", ".join(f"{flops:g}" for flops in meta.flops)
        messages.notice(
            f"{numbers} FLOPs are less than any network needs. If they are costs in another unit, shares of "
            "compute are right and GFLOPs are not; 1.2 GFLOPs are 1.2e9."
        )


def recipe() -> None:
    npz, csv, folder = st.tabs(["NPZ file", "CSV file", "Record folder"])
    with npz:
        st.markdown("One file from NumPy arrays:")
        st.code(record_folder.NPZ_EXAMPLE, language="python", wrap_lines=True)
        st.download_button(
            "Download an example file",
            record_folder.example_file,
            "example.npz",
            "application/octet-stream",
            on_click="ignore",
            icon=":material/download:",
        )
    with csv:
        st.markdown("One row per image, exits counted from 1. Give the four scores, or logits instead of them:")
        _files(record_folder.COLUMNS, "column")
        st.caption("Type the GFLOPs of each exit in the field of the form.")
    with folder:
        st.markdown("With this library, which validates what it writes:")
        st.code(record_folder.EXAMPLE, language="python", wrap_lines=True)
        st.markdown("Or write the files yourself, in any language that can write `.npy`:")
        _files(record_folder.FILES, "file")
        st.caption(
            "`exits` are block numbers, counted from 1. `flops` has one rising number per exit, of everything that "
            "has run by then. Shares are relative to `reference_flops`. Nothing is ever unpickled."
        )


def _files(texts: Mapping[str, str], what: str) -> None:
    shown = {what: [f"`{name}`" for name in texts], "holds": list(texts.values())}
    st.table(pd.DataFrame(shown), hide_index=True, alt=f"What each {what} holds.")

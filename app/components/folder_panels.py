"""Parts of Your own scores: the problems of a folder, its numbers and charts, and how to write one.

In: a folder, a record or an outcome. Out: elements of the page.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, widgets
from dmpo_explore_app.services import record_folder
from dmpo_explore_app.services.exploration import exit_names
from dmpo_explore_app.state import own_scores

import dmpo_explore as dx


def report(folder: Path) -> bool:
    """Show every problem of the folder; whether it is a valid record."""
    problems = record_folder.problems(record_folder.stamp(folder))
    if not problems:
        return True
    count = "One thing keeps" if len(problems) == 1 else f"{len(problems)} things keep"
    lines = [f"- {messages.with_code(problem.replace(f'{folder}/', ''), 300)}" for problem in problems]
    st.error("\n".join([f"**{count} this folder from being a record**", "", *lines]), icon=":material/rule_folder:")
    name = messages.escape_markdown(record_folder.name_of(folder))
    st.caption(f"Looked at {name}. Mend it and press R: the folder is read again.")
    if meant := record_folder.records_below(folder):
        st.markdown("Did you mean one of the records in it?")
        with st.container(horizontal=True, gap="small"):
            for i, path in enumerate(meant):
                name, key = messages.escape_markdown(path.relative_to(folder)), own_scores.suggestion_key(i)
                st.button(name, key=key, on_click=own_scores.open_folder, args=(record_folder.name_of(path),))
    return False


def val_record(text: str, folder: Path) -> Path | None:
    """The folder to choose thresholds on, if it is a record of the same exits and classes; else None and a notice."""
    if not text.strip():
        return None
    path = record_folder.find(text)
    problems = record_folder.problems(record_folder.stamp(path))
    if problems:
        first = messages.with_code(problems[0], 300)
        messages.notice(f"The second folder is not a record ({len(problems)} to mend): {first}")
        return None
    ours, theirs = (record_folder.record(record_folder.stamp(p)).meta for p in (folder, path))
    if (ours.exit_blocks, ours.class_names) != (theirs.exit_blocks, theirs.class_names):
        messages.notice("The second folder has other exits or other classes: thresholds cannot be chosen on it.")
        return None
    if path == folder:
        messages.notice("Both folders are the same: thresholds would be chosen on the images that judge them.")
    elif theirs.split == "test":
        messages.notice("The second folder is a test record: numbers on test flatter thresholds that are fitted there.")
    return path


def summary(record: dx.ExitRecord) -> None:
    """What the record holds, in a line."""
    meta = record.meta
    data, split, model = map(messages.escape_markdown, (meta.data, meta.split, meta.model))
    st.success(
        f"{record.n_images:,} images, {record.n_exits} exits, {len(meta.class_names)} classes: "
        f"{data} {split}, model {model}",
        icon=":material/check_circle:",
    )


def trade_off(outcome: dx.Outcome, table: pd.DataFrame) -> go.Figure:
    """Accuracy over compute, with the operating point."""
    st.header("Accuracy over compute", anchor=False)
    name, now = dx.figures.as_text(outcome.record.meta.model[:40]), outcome.summary()
    several = outcome.record.n_exits > 1
    singles = None if several else {name: (now["flops_fraction"], now["accuracy"])}
    figure = dx.figures.trade_off_figure({name: table} if several else {}, now if several else None, singles)
    alt = f"Accuracy over compute; now {now['accuracy']:.1%} at {now['flops_fraction']:.1%} compute."
    widgets.chart(figure, "own trade_off", 290, alt)
    return figure


def histogram(outcome: dx.Outcome) -> go.Figure:
    """How many images exit at each exit, correct and incorrect stacked."""
    st.header("Images by exit", anchor=False)
    figure = dx.figures.exit_histogram_figure(outcome.exits, outcome.correct, exit_names(outcome.record))
    counts = np.bincount(outcome.exits, minlength=outcome.record.n_exits)
    alt = "Images by exit: " + ", ".join(f"exit {k} {n:,}" for k, n in enumerate(counts, start=1)) + "."
    figure = figure.update_xaxes(title=None)
    widgets.chart(figure, "own histogram", 230, alt)
    return figure


def exits(record: dx.ExitRecord, table: pd.DataFrame) -> None:
    """One row per exit, as text."""
    st.header("Exit by exit", anchor=False)
    shown = compute_help.exits(record).assign(**{"exit here": [f"{count:,}" for count in table["images"]]})
    st.table(shown, hide_index=True, alt="Compute and accuracy of each exit, and how many images exit there.")


def recipe(*, opened: bool) -> None:
    """How to write such a folder."""
    with st.expander("How to write such a folder", expanded=opened, icon=":material/edit_note:"):
        st.markdown("From logits of every exit, with this library (it validates what it writes):")
        st.code(record_folder.EXAMPLE, language="python")
        st.markdown("Or write the files yourself, in any language that can write `.npy`:")
        files = {"file": [f"`{file}`" for file in record_folder.FILES], "holds": list(record_folder.FILES.values())}
        st.table(pd.DataFrame(files), hide_index=True, alt="The files of a record folder.")
        st.caption(
            "`exits` are block numbers, counted from 1; `flops` has one rising number per exit, counting everything "
            "that has run by then; shares are relative to `reference_flops`. Nothing is ever unpickled."
        )

"""Your own scores: a record folder of any model → what is wrong with it, or its curve, its exits and a threshold.

In: paths that somebody types; they never come from the address. Out: `dx.ExitRecord.problems`, numbers of
`dx.summarise`, curves of `dx.trade_off`. Nothing is written, no model runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, run_picker, share, widgets
from dmpo_explore_app.components.threshold_slider import data
from dmpo_explore_app.services import cache, code_export, record_folder
from dmpo_explore_app.state import choices
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx
from dmpo_explore.figures import compare
from dmpo_explore.figures import trade_off as trade_off_module
from dmpo_explore.policies.catalogue import POLICIES

BUDGETS, FIRST_BUDGET = (0.2, 0.3, 0.5, 0.7, 1.0), 0.3


def page() -> None:
    """Title, paths; then the report or the numbers; how to write a folder."""
    top = st.container(horizontal=True, vertical_alignment="center")
    top.title("Look at any model's scores", anchor=False)
    st.markdown(
        "Bring what **your own early-exit model** said at each of its exits: a folder with labels, scores and a few "
        "facts. The app reads it where it lies, on the machine it runs on; nothing is uploaded or changed."
    )
    text, val_text = paths()
    if text.strip():
        try:
            folder = record_folder.find(text)
            if report(folder):
                workbench(folder, val_record(val_text, folder), top)
        except (OSError, ValueError) as error:
            messages.problem("This folder cannot be opened.", error)
    recipe(opened=not text.strip())


def paths() -> tuple[str, str]:
    """The two folders, as typed."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        text = st.text_input(
            "Record folder",
            key="own_folder",
            placeholder="/home/me/my-records/test",
            width=420,
            persist_state="session",
            help="A folder with meta.json, labels.npy and scores/. Press Enter to open it.",
        )
        val_text = st.text_input(
            "Folder to choose thresholds on (optional)",
            key="own_val",
            placeholder="/home/me/my-records/val",
            width=420,
            persist_state="session",
            help="Scores of the same model on other, held-out images.",
        )
        st.button("Try it with a bundled record", on_click=_bundled, icon=":material/science:")
    if not record_folder.is_private():
        st.caption("This app can be reached from other machines, so it opens only folders under its runs root.")
    return text, val_text


def _bundled() -> None:
    st.session_state["own_folder"], st.session_state["own_val"] = record_folder.BUNDLED


def _choose(folder: str) -> None:
    st.session_state["own_folder"] = folder


def report(folder: Path) -> bool:
    """Say everything that is wrong with the folder; whether it can be looked at."""
    problems = cache.folder_problems(cache.folder_stamp(folder))
    if not problems:
        return True
    count = "One thing keeps" if len(problems) == 1 else f"{len(problems)} things keep"
    lines = [f"- {messages.plain(problem.replace(f'{folder}/', ''), 300)}" for problem in problems]
    st.error("\n".join([f"**{count} this folder from being a record**", "", *lines]), icon=":material/rule_folder:")
    st.caption(f"Looked at {messages.plain(folder)}. Mend it and press R: the folder is read again.")
    if meant := record_folder.records_below(folder):
        st.markdown("Did you mean one of the records in it?")
        with st.container(horizontal=True, gap="small"):
            for i, path in enumerate(meant):
                name = messages.plain(path.relative_to(folder))
                st.button(name, key=f"own_meant {i}", on_click=_choose, args=(str(path),))
    return False


def val_record(text: str, folder: Path) -> Path | None:
    """The folder to choose thresholds on, if it is a record of the same exits and classes; else a word about it."""
    if not text.strip():
        return None
    path = record_folder.find(text)
    problems = cache.folder_problems(cache.folder_stamp(path))
    if problems:
        first = messages.plain(problems[0], 300)
        messages.notice(f"The second folder is not a record ({len(problems)} to mend): {first}")
        return None
    ours, theirs = (cache.folder_record(cache.folder_stamp(p)).meta for p in (folder, path))
    if (ours.exit_blocks, ours.class_names) != (theirs.exit_blocks, theirs.class_names):
        messages.notice("The second folder has other exits or other classes: thresholds cannot be chosen on it.")
        return None
    if path == folder:
        messages.notice("Both folders are the same: thresholds would be chosen on the images that judge them.")
    elif theirs.split == "test":
        messages.notice("The second folder is a test record: numbers on test flatter thresholds that are fitted there.")
    return path


def workbench(folder: Path, val: Path | None, top: DeltaGenerator) -> None:
    """Left the threshold and what it gives, right the curve and who leaves where; ``top`` is the title's row."""
    stamp = cache.folder_stamp(folder)
    record = cache.folder_record(stamp)
    meta = record.meta
    st.success(
        f"{record.n_images:,} images, {record.n_exits} exits, {len(meta.class_names)} classes: "
        f"{messages.plain(meta.data)} {messages.plain(meta.split)}, model {messages.plain(meta.model)}",
        icon=":material/check_circle:",
    )
    with st.container(key="halves"):
        left, right = st.columns([5, 7], gap="medium")
    with left:
        policy = threshold(record, stamp, val)
        exits = policy.exits(record)
        summary = dx.summarise(record, exits)
        widgets.headline(summary)
    with right:
        charts = {"trade-off": trade_off(record, stamp, policy, summary), "exits": histogram(record, exits)}
    with top:
        table = exits_table(record, exits)
        share.popover(
            f"{meta.data}-{meta.split}",
            {"thresholds": policy} if record.n_exits > 1 else {},
            {"exits": lambda: table},
            {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
            lambda: code_export.folder_code(folder, policy, val),
            link=False,
        )
    st.header("Exit by exit", anchor=False)
    st.table(_shown(record, table), hide_index=True, alt="Cost and accuracy of each exit, and who leaves there.")


def threshold(record: dx.ExitRecord, stamp: cache.FolderStamp, val: Path | None) -> dx.Policy:
    """A rule, and a threshold by hand or from a budget on the second folder."""
    rules = [name for name in choices.RULES if not POLICIES[name].learns]  # those need more than a threshold
    choices.settle("own_policy", rules, "confidence", "policy")
    name = st.selectbox("Leave by", rules, key="own_policy", help=run_picker.POLICY_HELP, persist_state="session")
    table = cache.folder_trade_off(stamp, str(name))
    stops = table["threshold"].tolist()
    if len(stops) == 1:
        st.info("This record has a single exit: there is nothing to choose.", icon=":material/looks_one:")
        return dx.fit_policy(record, str(name), threshold=stops[0])
    if val is not None and (fitted := from_budget(record, str(name), val)):
        return fitted
    return by_hand(record, str(name), stops)


def from_budget(record: dx.ExitRecord, name: str, val: Path) -> dx.Policy | None:
    """The threshold for a budget, chosen on the second folder; None if no budget is lit."""
    costs = cache.folder_record(cache.folder_stamp(val)).flops_fraction
    offers = [budget for budget in BUDGETS if budget >= max(float(costs[0]), float(record.flops_fraction[0]))]
    if "own_budget" not in st.session_state or st.session_state["own_budget"] not in (None, *offers):
        st.session_state["own_budget"] = FIRST_BUDGET if FIRST_BUDGET in offers else None
    budget = st.pills(
        "At most this compute, chosen on the second folder",
        offers,
        format_func=lambda value: f"{value:.0%}",
        key="own_budget",
        persist_state="session",
    )
    if budget is None:
        return None
    fitted = cache.folder_fitted(cache.folder_stamp(val), name, budget)
    threshold = fitted.thresholds[0]
    ends = {fitted.threshold_all: 0, fitted.threshold_none: 1}
    rule = says(name, f"{threshold:.4g}", ends.get(threshold))
    st.caption(f":material/check_circle: Chosen on the second folder. {rule}")
    return fitted


def by_hand(record: dx.ExitRecord, name: str, stops: list[float]) -> dx.Policy:
    """The slider over the stops of the curve."""
    labels = [data.EARLIEST, *(f"{stop:.4g}" for stop in stops[1:-1]), data.LATEST]
    key = f"own_threshold {name}"
    place = st.session_state.get(key, len(stops) // 2)
    st.session_state[key] = min(place, len(stops) - 1)  # another folder may have fewer
    place = st.select_slider(
        "Threshold", range(len(stops)), format_func=labels.__getitem__, key=key, persist_state="session"
    )
    end = {0: 0, len(stops) - 1: 1}.get(place)
    st.caption(f":material/back_hand: Set by hand. {says(name, labels[place], end)}")
    return dx.fit_policy(record, name, threshold=stops[place])


def says(name: str, threshold: str, end: int | None) -> str:
    """The rule in words; at an end of the slider (0 or 1) what that means."""
    return choices.RULES[name].format(threshold) if end is None else data.ends_said(name)[end]


def trade_off(
    record: dx.ExitRecord, stamp: cache.FolderStamp, policy: dx.Policy, summary: dict[str, float]
) -> go.Figure:
    """The curve with the point."""
    st.header("Accuracy over compute", anchor=False)
    name = compare.as_text(record.meta.model[:40])
    table = cache.folder_trade_off(stamp, policy.name)
    several = record.n_exits > 1
    singles = None if several else {name: (summary["flops_fraction"], summary["accuracy"])}
    figure = trade_off_module.trade_off_figure({name: table} if several else {}, summary if several else None, singles)
    alt = f"Accuracy over compute; now {summary['accuracy']:.1%} at {summary['flops_fraction']:.1%} compute."
    widgets.chart(figure, "own trade_off", 290, alt)
    return figure


def histogram(record: dx.ExitRecord, exits: np.ndarray) -> go.Figure:
    """How many images leave at each exit, right and wrong stacked."""
    st.header("Who leaves where", anchor=False)
    right = record.correct[np.arange(record.n_images), exits]
    labels = [f"exit {k}<br>block {block}" for k, block in enumerate(record.meta.exit_blocks, start=1)]
    figure = trade_off_module.exit_histogram_figure(exits, right, labels).update_xaxes(title=None)
    counts = np.bincount(exits, minlength=record.n_exits)
    alt = "Images leaving: " + ", ".join(f"exit {k} {n:,}" for k, n in enumerate(counts, start=1)) + "."
    widgets.chart(figure, "own histogram", 230, alt)
    return figure


def exits_table(record: dx.ExitRecord, exits: np.ndarray) -> pd.DataFrame:
    """One row an exit, numbers in full."""
    counts = np.bincount(exits, minlength=record.n_exits)
    return pd.DataFrame(
        {
            "exit": np.arange(1, record.n_exits + 1),
            "block": record.meta.exit_blocks,
            "flops": record.meta.flops,
            "flops_fraction": record.flops_fraction,
            "accuracy_if_all_left_here": record.correct.mean(axis=0),
            "images": counts,
        }
    )


def _shown(record: dx.ExitRecord, table: pd.DataFrame) -> pd.DataFrame:
    return compute_help.exits(record).assign(**{"leave here": [f"{count:,}" for count in table["images"]]})


def recipe(*, opened: bool) -> None:
    """How to write such a folder."""
    with st.expander("How to write such a folder", expanded=opened, icon=":material/edit_note:"):
        st.markdown("From logits of every exit, with this library (it checks what it writes):")
        st.code(record_folder.EXAMPLE, language="python")
        st.markdown("Or write the files yourself, in any language that can write `.npy`:")
        files = {"file": [f"`{file}`" for file in record_folder.FILES], "holds": list(record_folder.FILES.values())}
        st.table(pd.DataFrame(files), hide_index=True, alt="The files of a record folder.")
        st.caption(
            "`exits` are block numbers, counted from 1; `flops` has one rising number per exit, counting everything "
            "that has run by then; shares are relative to `reference_flops`. Nothing is ever unpickled."
        )


page()

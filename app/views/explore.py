"""Explore: move the threshold, see who leaves where, what it saves and what it costs.

In: runs (bundled and under the runs root). Out: numbers of `dx.summarise`, curves of `dx.trade_off`, pictures. Moving
the threshold asks arrays only; no model runs and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

import address
import dial
import dmpo_explore as dx
import gallery
import loading
import widgets
from dmpo_explore import figures

STYLE = Path(__file__).parent.parent / "style.css"
KEYS = ("run", "split", "policy", "threshold")  # of the address and of the widgets
SHOWN = 18  # pictures of each exit at a time
COMPARED = 3  # runs beside the chosen one unless the reader asks for others


class View(NamedTuple):
    """What is looked at, and what the chosen policy does there."""

    run: dx.Run
    split: str
    record: dx.ExitRecord
    policy: dx.Policy
    exits: npt.NDArray[np.int64]  # (B,) 0-based
    right: npt.NDArray[np.bool_]  # (B,) whether the answer given there is right
    summary: dict[str, Any]


def page() -> None:
    """Title, choices, workbench, explanations."""
    st.html(STYLE)
    st.title("When may the model stop?", anchor=False)
    st.markdown(
        "An image leaves at the first exit that is sure enough and saves the rest of the way. **Move the threshold**: "
        "see who leaves where, what it saves, what it costs."
    )
    names = dx.list_runs()
    if not names:
        widgets.no_runs()
        return
    address.follow(KEYS)
    try:
        workbench(names)
    except (OSError, ValueError) as error:
        widgets.problem("This run cannot be shown.", error)


def workbench(names: Sequence[str]) -> None:
    """Choices on top; left the threshold and its numbers, right the images."""
    name = widgets.settle_run(names)
    try:
        run = dx.load_run(name)
    except (OSError, ValueError):
        widgets.choices(names, [])
        raise
    splits = run.splits()
    if splits:
        split, policy_name = widgets.settle_split(splits), widgets.settle_policy()
    widgets.choices(names, splits)
    if not splits:
        widgets.notice(f"Run {widgets.plain(run.name)} has no record yet: `dmpo-explore record {run.name}` makes it.")
        return
    dial.settle_threshold(run, split, policy_name)
    with st.container(key="workbench"):
        left, right = st.columns([5, 7], gap="medium")
    with left, st.container(key="panel"):
        policy = dial.threshold_dial(run, split, policy_name)
        view = look(run, split, policy)
        provenance(view)
        widgets.headline(view.summary)
        trade_off(names, view)
    with right:
        histogram(view)
        pictures(view)
    explanation(view)
    remember(view)


def look(run: dx.Run, split: str, policy: dx.Policy) -> View:
    """Ask the record what ``policy`` does."""
    record = loading.record(run, split)
    exits = policy.exits(record)
    right = record.prediction[np.arange(record.images), exits] == record.labels
    return View(run, split, record, policy, exits, right, dx.summarise(record, exits))


def remember(view: View) -> None:
    """Keep the view in the address, and its compute for when run or policy change."""
    parts = {"run": view.run.name, "split": view.split, "policy": view.policy.name}
    if view.record.n_exits > 1:
        st.session_state["_compute"] = view.summary["flops_fraction"]
        parts["threshold"] = str(view.policy.thresholds[0])
    address.write(**parts)


def provenance(view: View) -> None:
    """One line: where the threshold comes from."""
    if view.record.n_exits == 1:
        return
    fitted = dial.wish(view.run, view.policy.name)
    if fitted is None:
        st.caption(f":material/back_hand: Set by hand, looking at {widgets.plain(view.split)}.")
        return
    val = loading.record(view.run, "val")
    there = dx.summarise(val, fitted.exits(val))
    given = f"{there['accuracy']:.2%} at {there['flops_fraction']:.1%} compute"
    st.caption(f":material/check_circle: Chosen on val: {given} there. The cards show {widgets.plain(view.split)}.")


def trade_off(names: Sequence[str], view: View) -> None:
    """The run's curve with the current point, and other runs on the same images beside it."""
    others = _comparable(names, view)
    key = f"beside {view.run.name}"
    beside = [name for name in st.session_state.get(key, list(others)[:COMPARED]) if name in others]
    curves: dict[str, pd.DataFrame] = {}
    singles: dict[str, tuple[float, float]] = {}
    for name in [view.run.name, *beside]:
        table = loading.trade_off(others.get(name, view.run), view.split, view.policy.name)
        if len(table) > 1:
            curves[name] = table
        else:
            singles[name] = (table["flops_fraction"].iloc[0], table["accuracy"].iloc[0])
    s = view.summary
    where = ", ".join([*curves, *singles])
    alt = f"Accuracy over compute of {where}; now {s['accuracy']:.1%} at {s['flops_fraction']:.1%} compute."
    point = s if view.record.n_exits > 1 else None  # a single exit is its own diamond
    widgets.chart(figures.trade_off_figure(curves, point, singles), "trade_off", 270, alt)
    if others:
        options = list(others)
        text = "Other runs whose record is of the same images."
        st.pills(
            "Compare with",
            options,
            selection_mode="multi",
            default=beside,
            format_func=widgets.plain,
            key=key,
            help=text,
        )


def _comparable(names: Sequence[str], view: View) -> dict[str, dx.Run]:
    """Other runs whose record of this split is of the same images; those that cannot be read are left out."""
    found = {}
    for name in names:
        try:
            run = dx.load_run(name)
            if name != view.run.name and np.array_equal(loading.record(run, view.split).labels, view.record.labels):
                found[name] = run
        except (OSError, ValueError):
            continue
    return found


def histogram(view: View) -> None:
    """How many images leave at each exit, right and wrong stacked."""
    st.header("Who leaves where", anchor=False)
    blocks = view.record.meta.exits
    labels = [f"exit {k}<br>block {block}" for k, block in enumerate(blocks, start=1)]
    figure = figures.exit_histogram(view.exits, view.right, labels).update_xaxes(title=None)
    counts = np.bincount(view.exits, minlength=len(blocks))
    alt = "Images leaving: " + ", ".join(f"exit {k} {n:,}" for k, n in enumerate(counts, start=1)) + "."
    widgets.chart(figure, "histogram", 220, alt)


def pictures(view: View) -> None:
    """Some images of every exit, right and wrong."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        shown = st.segmented_control("Show", ["all", "right", "wrong"], default="all", required=True, key="answers")
        if st.button("Show others", icon=":material/shuffle:", help="Other images of every exit."):
            st.session_state["_page"] = st.session_state.get("_page", 0) + 1
    picture = _picture_source(view)
    keep = {"right": view.right, "wrong": ~view.right}.get(str(shown), np.ones(view.record.images, bool))
    order = gallery.shuffled(view.record.images)
    order = order[keep[order]]
    where = view.exits[order]
    counts = np.bincount(view.exits, minlength=view.record.n_exits).tolist()
    colours = figures.exit_colours(view.record.n_exits)
    for exit, colour in enumerate(colours):
        right = float(view.right[view.exits == exit].mean()) if counts[exit] else 0.0
        rows = gallery.page_of(order[where == exit], st.session_state.get("_page", 0), SHOWN)
        body = (
            gallery.figures(view.record, exit, rows, picture) if rows.size else '<p class="dx-none">None to show.</p>'
        )
        st.html(gallery.exit_header(view.record, exit, counts, right, colour) + body)


def _picture_source(view: View) -> Callable[[int], str] | None:
    try:
        return loading.thumbnails(view.run, view.split)
    except (OSError, ValueError) as error:
        st.info(
            f"The pictures of {widgets.plain(view.split)} are not here; their numbers are shown instead. "
            f"{widgets.plain(error, 500)}",
            icon=":material/hide_image:",
        )
        return None


def explanation(view: View) -> None:
    """How compute is counted and where thresholds come from."""
    meta = view.record.meta
    with st.expander("How compute is counted, and where thresholds come from", icon=":material/help:"):
        st.markdown(
            f"**Compute** is counted in FLOPs ({widgets.plain(meta.flops_convention)}). Leaving at an exit costs "
            "everything that has run so far: embedding, blocks, tuning, and every bypass and predictor already asked. "
            "Shares are relative to the *plain backbone*: the same network with one linear predictor at its end and "
            f"nothing added, at the same image size ({meta.reference_flops / 1e9:.3g} GFLOPs an image). A run's own "
            "full depth may therefore exceed 100%.\n\n"
            "**Thresholds** from the pills under the slider are fitted on val, images held out from training, and "
            "applied unchanged to test. Moving the slider while looking at test is for exploring; a number to report "
            "comes from val."
        )
        st.table(
            pd.DataFrame(
                {
                    "exit": [str(k) for k in range(1, view.record.n_exits + 1)],
                    "after block": [str(block) for block in meta.exits],
                    "GFLOPs": [f"{flops / 1e9:.3g}" for flops in meta.flops],
                    "share of the plain backbone": [f"{share:.1%}" for share in view.record.flops_fraction],
                    "accuracy if all left here": [f"{accuracy:.2%}" for accuracy in view.summary["exit_accuracy"]],
                }
            ),
            hide_index=True,
            width="content",
        )
        size = f"{meta.image_size} px" if meta.image_size else "unknown size"
        recorded = widgets.plain(meta.created or "at an unknown time")
        st.caption(f"Model: {widgets.plain(meta.model)} · {size} · recorded {recorded}")


page()

"""Explore: drag the threshold, see who leaves where, what it saves and what it costs.

In: runs (bundled and under the runs root). Out: numbers of `dx.summarise`, curves of `dx.trade_off`, pictures. While
the thumb moves the browser redraws alone; letting go asks arrays only: no model runs and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, exit_explorer, share, threshold_controls, widgets
from dmpo_explore_app.components import run_picker as run_picker_module
from dmpo_explore_app.components.threshold_slider import data as data_module
from dmpo_explore_app.components.threshold_slider import threshold_slider
from dmpo_explore_app.services import cache
from dmpo_explore_app.state import calibration, choices, filters, operating_point, url

import dmpo_explore as dx
from dmpo_explore.figures import compare
from dmpo_explore.figures import trade_off as trade_off_module

KEYS = (
    "run",
    "split",
    "policy",
    "threshold",
    calibration.KEY,
    "beside",
    *operating_point.WISHES,
    *filters.KEYS,
)  # of the address and of the state
WORKBENCH = "workbench"  # key of the fragment that draws all of the page
NONE = ","  # in the address: nothing beside it
COMPARED = 3  # runs beside the chosen one unless the reader asks for others


class View(NamedTuple):
    """What is looked at, and what the chosen policy does there."""

    run: dx.Run
    split: str
    record: dx.ExitRecord  # as recorded
    read: dx.ExitRecord  # ... with the scores that the policy reads
    policy: dx.Policy
    exits: npt.NDArray[np.int64]  # (B,) 0-based
    right: npt.NDArray[np.bool_]  # (B,) whether the answer given there is right
    summary: dict[str, Any]
    chosen: filters.Selection


def page() -> None:
    """The address, then the workbench as one fragment: choosing something draws only that anew."""
    names = dx.list_runs()
    if not names:
        widgets.title()
        widgets.no_runs()
        return
    if url.follow(KEYS):
        st.session_state["_fresh"] = True
    body(names)


@st.fragment(key=WORKBENCH)
def body(names: Sequence[str]) -> None:
    """The workbench, or what is wrong with the run."""
    try:
        workbench(names)
    except (OSError, ValueError) as error:
        messages.problem("This run cannot be shown.", error)


def workbench(names: Sequence[str]) -> None:
    """Choices on top, then what follows the slider."""
    top = st.container(horizontal=True, vertical_alignment="center", gap="xsmall")
    with top:
        widgets.title()
    found = run_picker_module.settle(names)
    if found is None:
        return
    run, split, _, policy = found[:4]
    view = look(run, split, policy)
    found.row()
    with top:
        others = comparable(names, view)
        beside = choose_beside(others, run.name)
        compute_help.popover(run, split, view.policy)
        tables = curves(view, {name: others[name] for name in beside})
        share.bar(run, split, view.policy, _tables(view), _figures(view, tables))
    following(run, split, policy.name, [view], others, beside)


@st.fragment
def following(
    run: dx.Run, split: str, policy: str, settled: list[View], others: Mapping[str, dx.Run], beside: Sequence[str]
) -> None:
    """The cockpit, then who leaves where: classes, pictures, a table. Letting go of the slider draws only this anew.

    Args:
        settled: the view that all above was just drawn for; taken out, so that the next time it is settled here.
    """
    try:
        view = settled.pop() if settled else look(run, split, operating_point.settle(run, split, policy))
        instruments(view, curves(view, {name: others[name] for name in beside}))
        exit_explorer.views(
            view.run, view.split, view.read, view.exits, view.right, view.chosen, operating_point.text(view.policy)
        )
        remember(view, beside, list(others))
    except (OSError, ValueError) as error:
        messages.problem("This run cannot be shown.", error)


def look(run: dx.Run, split: str, policy: dx.Policy) -> View:
    """Ask the record what ``policy`` does."""
    record = cache.record(run, split)
    exits = policy.exits(record)
    right = record.prediction[np.arange(record.n_images), exits] == record.labels
    read = cache.tempered(run, split, policy.temperatures)
    return View(run, split, record, read, policy, exits, right, dx.summarise(record, exits), filters.settle(record))


def remember(view: View, beside: Sequence[str], others: Sequence[str]) -> None:
    """Keep the view in the address, and its compute for when run or policy change."""
    parts = {"run": view.run.name, "split": view.split, "policy": view.policy.name}
    if view.record.n_exits > 1:
        st.session_state["_compute"] = view.summary["flops_fraction"]
        parts["threshold"] = operating_point.text(view.policy)
        parts |= {calibration.KEY: "1"} if calibration.on() else {}
        parts |= {
            key: f"{value:g}" for key in operating_point.WISHES if (value := st.session_state.get(key)) is not None
        }
    if list(beside) != list(others[:COMPARED]):
        parts["beside"] = ",".join(beside) or NONE
    url.write(**parts, **filters.address(view.chosen, view.record))


def choose_beside(others: Mapping[str, dx.Run], name: str) -> list[str]:
    """Which of ``others`` stand beside run ``name``; in the row that is open. Each run has its own choice."""
    state, key, usual = st.session_state, f"beside {name}", list(others)[:COMPARED]
    if "beside" in state:  # an address was followed; None: it has nothing to say about it
        asked = state.pop("beside")
        wanted = usual if asked is None else [part for part in str(asked).split(",") if part]
        for other in wanted:
            if other not in others:
                shown = f"{messages.plain(repr(other), 60)} cannot stand beside {messages.plain(name)}"
                messages.notice(f"{shown}: there is no such run on the same images with the same backbone.")
        state[key] = list(dict.fromkeys(wanted))
    state[key] = [other for other in state.get(key, usual) if other in others]
    if others:
        with st.popover("Beside it", icon=":material/stacked_line_chart:"):
            text = "Other runs whose record is of the same images, with the same backbone"
            options = {"format_func": messages.plain, "key": key, "persist_state": "session"}
            st.pills(text, list(others), selection_mode="multi", **options)  # type: ignore[call-overload]
    return list(state[key])


def curves(view: View, beside: Mapping[str, dx.Run]) -> dict[str, pd.DataFrame]:
    """Name → trade-off of the run and of those beside it."""
    found = {view.run.name: _curve(view)}
    for name, run in beside.items():
        policy = view.policy.name if view.policy.name in choices.policies(run) else "confidence"
        found[name] = cache.trade_off(run, view.split, policy)
    return found


def comparable(names: Sequence[str], view: View) -> dict[str, dx.Run]:
    """Other runs on the same images with the same backbone (`loading.Fingerprint`), without those that are broken."""
    found, ours = {}, cache.fingerprint(view.run, view.split)
    for name in names:
        try:
            run = dx.load_run(name)
            if name != view.run.name and ours.comparable(cache.fingerprint(run, view.split)):
                found[name] = run
        except (OSError, ValueError):
            continue
    return found


def instruments(view: View, tables: dict[str, pd.DataFrame]) -> None:
    """Slider, numbers, curve and bars: the component, or Streamlit's own (see `widgets.live`)."""
    chosen, image = view.chosen, view.chosen.image
    data = data_module.cockpit(
        view.run,
        view.split,
        view.policy,
        tables,
        seq=st.session_state.get("_seq", 0),
        exit=chosen.exit,
        marked=0 if image is None else int(view.exits[image]) + 1,
        label=chosen.label - 1 if chosen.label else None,
        source=threshold_controls.source(view.run, view.split, view.policy),
    )
    if widgets.live():
        threshold_slider(data, operating_point.COCKPIT, partial(operating_point.moved, WORKBENCH), _bar_picked)
        return
    threshold_controls.native(data, WORKBENCH)
    st.caption(messages.plain(data["source"], 500))
    widgets.headline(view.summary)
    for name, figure in _figures(view, tables).items():
        widgets.chart(figure(), name, 260, f"{data['alt']}." if name == "trade-off" else name)


def _bar_picked() -> None:
    event = getattr(st.session_state.get(operating_point.COCKPIT), "picked", None)
    if isinstance(event, dict):
        filters.toggle(f"exit {event.get('exit')}")


def _figures(view: View, tables: dict[str, pd.DataFrame]) -> dict[str, Callable[[], go.Figure]]:
    names = [f"exit {k}<br>block {block}" for k, block in enumerate(view.record.meta.exit_blocks, start=1)]
    lines = {name: table for name, table in tables.items() if len(table) > 1}
    singles = {name: (t["flops_fraction"].iloc[0], t["accuracy"].iloc[0]) for name, t in tables.items() if len(t) < 2}
    several = view.record.n_exits > 1  # a single exit is its own diamond
    bound = cache.trade_off(view.run, view.split, "oracle") if several else None
    classes = [compare.as_text(name) for name in view.record.meta.class_names]
    now = view.summary if several else None

    def trade_off() -> go.Figure:
        return data_module.coloured(trade_off_module.trade_off_figure(lines, now, singles, bound=bound), list(tables))

    return {
        "trade-off": trade_off,
        "exits": partial(trade_off_module.exit_histogram_figure, view.exits, view.right, names),
        "classes": partial(trade_off_module.class_exit_figure, view.record.labels, view.exits, classes, names),
    }


def _tables(view: View) -> dict[str, Callable[[], pd.DataFrame]]:
    return {
        "images": partial(exit_explorer.table, view.read, view.exits, view.right, np.arange(view.record.n_images)),
        "curve": partial(_curve, view),
    }


def _curve(view: View) -> pd.DataFrame:
    return cache.trade_off(view.run, view.split, view.policy.name, bool(view.policy.temperatures))


page()

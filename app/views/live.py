"""Live: measured speed-up of early exits on this machine, beside the speed-up expected from FLOPs.

The early-exit engine and the full model answer the same recorded images in turn; the threshold may move meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import live_controls, live_panel, run_picker, threshold_controls, widgets
from dmpo_explore_app.components.progress import waiting_notice
from dmpo_explore_app.components.threshold_slider import data as data_module
from dmpo_explore_app.components.threshold_slider import threshold_slider
from dmpo_explore_app.services import cache, live_session
from dmpo_explore_app.services.live_session import LiveSession
from dmpo_explore_app.state import calibration, links, live, operating_point, url

import dmpo_explore as dx

KEYS = (
    "run",
    "split",
    "policy",
    "threshold",
    calibration.KEY,
    *operating_point.WISHES,
    *live.ADDRESS,
)  # of the address and the state
REFRESH = 1.0  # seconds between two updates


class View(NamedTuple):
    """What is chosen."""

    run: dx.Run
    split: str
    record: dx.ExitRecord
    policy: dx.Policy


def page() -> None:
    """Title, then the workbench, or the reason why the run cannot be shown."""
    top = st.container(horizontal=True, vertical_alignment="center", gap="small")
    top.title("How much time do early exits save here?", anchor=False)
    names = dx.list_runs()
    if not names:
        widgets.no_runs()
        return
    if url.follow(KEYS):
        st.session_state["_fresh"] = True
    try:
        with waiting_notice():
            workbench(names)
    except (OSError, ValueError) as error:
        messages.problem("This run cannot be shown.", error)
    with top:
        live_controls.measurement_help()
        device = dx.inference.describe_device()  # last: it imports torch
        st.caption(f":material/memory: {messages.plain(device)}", width="content")


def workbench(names: Sequence[str]) -> None:
    """Choices, the threshold with its expected outcome, then the live run."""
    found = run_picker.settle(names)
    if found is None:
        return
    view = View(*found[:4])
    found.row()
    live.validate(view.record)
    expected = dx.apply(view.policy, view.record).summary()
    threshold(view, expected)
    measured(view)
    write_address(view, expected["flops_fraction"])


def threshold(view: View, expected: dict[str, float]) -> None:
    """The threshold slider and the recorded outcome of its threshold."""
    run, split, policy = view.run, view.split, view.policy
    tables = {run.name: cache.trade_off(run, split, policy.name, bool(policy.temperatures))}
    source = f"{threshold_controls.source(run, split, policy)} They are recorded; those of this machine are below."
    seq = st.session_state.get("_seq", 0)
    data = data_module.cockpit(run, split, policy, tables, seq=seq, source=source)
    data["compact"] = True
    if widgets.live():
        threshold_slider(data, operating_point.COCKPIT, operating_point.moved, lambda: None)
        return
    threshold_controls.native(data)
    st.caption(messages.plain(source, 500))
    widgets.headline(expected)


def measured(view: View) -> None:
    """Settings and buttons; below them the live statistics."""
    session = live_controls.current(view.run, view.split)
    reason = live_session.unavailable_reason(view.run)
    row = st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="engine_room")
    place = st.container()
    with place:
        if live.take_start_request() and reason is None:
            session = live_controls.start(view.run, view.split, view.policy, view.record)
        if reason is not None:
            messages.problem("There is no live run of this model here.", reason)
    alive = session is not None and session.live.look().alive
    if session is not None and alive:
        session.live.use(view.policy)
    with row:
        live_controls.controls(view.record, session, available=reason is None)
    if session is not None:
        image = widgets.picture_source(view.run, view.split)
        st.fragment(watch, run_every=REFRESH if alive else None)(session, view, image, alive)
    elif reason is None:
        st.caption(
            "Start, and the engine answers these images on this machine, each exiting where the threshold allows; the "
            "full model answers the same images in turn. Move the threshold while it runs."
        )


def watch(session: LiveSession, view: View, image: Callable[[int], str] | None, alive: bool) -> None:
    """The live statistics so far; the page is drawn again when the live run ends."""
    more = {"policy": view.policy.name, "threshold": operating_point.text(view.policy)}
    more |= {calibration.KEY: "1"} if calibration.on() else {}
    link = partial(_link, view, more)
    look = live_panel.panel(session, view.record, image, link)
    if alive and not look.alive:
        st.rerun()


def _link(view: View, more: dict[str, str], row: int) -> str:
    return links.href(view.run, view.split, row, **more)


def write_address(view: View, compute: float) -> None:
    """Keep the choices in the address, and the compute for when run or policy change."""
    state = st.session_state
    parts = {"run": view.run.name, "split": view.split, "policy": view.policy.name}
    if view.record.n_exits > 1:
        state["_compute"] = compute
        parts["threshold"] = operating_point.text(view.policy)
        parts |= {calibration.KEY: "1"} if calibration.on() else {}
        parts |= {key: f"{value:g}" for key in operating_point.WISHES if (value := state.get(key)) is not None}
    url.write(**parts, **live.address())


page()

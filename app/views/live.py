"""Live: measured speed-up of early exits on this machine, beside the one expected from FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import live_controls, live_panel, run_picker, threshold_controls, widgets
from dmpo_explore_app.components.progress import waiting_notice
from dmpo_explore_app.components.threshold_slider import supplies, threshold_slider
from dmpo_explore_app.services import exploration, live_session
from dmpo_explore_app.services.live_session import LiveSession
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.slider_data import slider_data
from dmpo_explore_app.state import choices, events, links, live_choices, notes, operating_point, url

import dmpo_explore as dx

KEYS = (*choices.KEYS, *operating_point.KEYS, *live_choices.ADDRESS)  # of the address and of the state
REFRESH = 1.0  # seconds between two updates


def page() -> None:
    events.keep_choices(False)
    names = dx.list_runs()
    if not names:
        widgets.no_runs()
        return
    operating_point.follow(KEYS)
    with messages.problems("This run cannot be shown."), waiting_notice():
        workbench(names)


def workbench(names: Sequence[str]) -> None:
    point = run_picker.choose(names)
    if point is None:
        return
    live_choices.validate(point.record)
    threshold(point)
    measured(point)
    operating_point.keep_compute(point)
    url.write(**operating_point.address(point), **live_choices.address())


def threshold(point: OperatingPoint) -> None:
    source = f"{threshold_controls.source(point)} These numbers are the record's; timings are below.".strip()
    tables = {point.run.name: exploration.curve(point)}
    supplies.code()
    threshold_slider(slider_data(point, tables, answered=events.last(), source=source, compact=True))


def measured(point: OperatingPoint) -> None:
    session = live_controls.current(point.run, point.split)
    reason = live_session.unavailable_reason(point.run)
    row = st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="engine_room")
    place = st.container()
    with place:
        if notes.take(notes.LIVE) and reason is None:
            session = live_controls.start(point.run, point.split, point.policy, point.record)
        if reason is not None:
            live_controls.unavailable(point.run, reason)
    alive = session is not None and session.live.look().alive
    if session is not None and alive:
        session.live.use(point.policy)
    with row:
        live_controls.controls(point.record, session, available=reason is None)
        about = st.container(horizontal=True, gap="small", vertical_alignment="center", width="content")
    statistics(point, session, alive, available=reason is None)
    with about:
        live_controls.measurement_help()
        device = dx.inference.describe_device()  # last: it imports torch
        st.caption(f":material/memory: {messages.escape_markdown(device)}", width="content")


def statistics(point: OperatingPoint, session: LiveSession | None, alive: bool, *, available: bool) -> None:
    """The live run's numbers, or the race as recorded before it."""
    image = widgets.thumbnail_source(point.run, point.split)
    if session is not None:
        st.fragment(watch, run_every=REFRESH if alive else None)(session, point, image, alive)
        return
    live_panel.preview(point, image)
    if available:
        meanwhile = " Move the threshold meanwhile." if point.record.n_exits > 1 else ""
        st.caption(f"**Start** runs both on this machine: they take turns on the same images.{meanwhile}")


def watch(session: LiveSession, point: OperatingPoint, image: Callable[[int], str] | None, alive: bool) -> None:
    """The live statistics so far; the page is drawn again when the live run ends."""
    look = live_panel.panel(session, point.record, image, lambda row: links.href(links.to_image(point, row)))
    if alive and not look.alive:
        st.rerun()


page()

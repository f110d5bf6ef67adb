"""Widgets of the page Live: settings of a live run, its start, pause and stop, and how it is measured."""

from __future__ import annotations

from typing import Any

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import fetch_offer
from dmpo_explore_app.services import downloads, live_session, model_queries
from dmpo_explore_app.services.live_session import LiveSession
from dmpo_explore_app.state import live_choices as state
from dmpo_explore_app.state import notes

import dmpo_explore as dx

ENGINE_HELP = (
    "**torch** answers one batch after another; images that exit are dropped, so deep stages see smaller batches.  \n"
    "**torch, refill** takes {} batches at a time; the images that remain wait until a batch is full again.  \n"
    "**ONNX** runs the exported stages with onnxruntime on the CPU, in float32 or int8; the first start exports them."
)
MEASURED_HELP = (
    "**Two arms** answer the same images, call by call, and alternate in coming first. One exits where the threshold "
    "allows. The other, at full depth, has the same weights and runs every block, but only the last predictor (with "
    "ONNX those of all exits).\n\n"
    "**A call** is timed from resized images in the device's memory to answers on the host, in the chosen precision, "
    "with the tuning merged into the weights where that is possible.\n\n"
    "**Expected from FLOPs**: those of the plain backbone over the mean of the exits taken. Measured is the ratio of "
    "seconds, which small batches, short layers and the work between the stages keep smaller. Its spread lies between "
    "the lowest and the highest tenth of the calls.\n\n"
    "**Latency** is that of a call: half of them take at most p50, 95% at most p95. The histogram counts images: from "
    "the beginning of their call until their exit's stage ended.\n\n"
    "**Energy**, where a counter can be read: every ten seconds each arm repeats a call for a second.\n\n"
    "**Matches recorded exits**: every exit and answer is compared with the record, under the threshold of its call. "
    "When the threshold moves, all else is counted again."
)


def controls(record: dx.ExitRecord, session: LiveSession | None, *, available: bool) -> None:
    """The settings, disabled while a live run is at work, and its buttons; in the row that is open."""
    state_name = "" if session is None else session.live.look().state
    alive = state_name in dx.inference.ALIVE
    _settings(record, disabled=alive)
    if session is None or not alive:
        st.button(
            "Start" if session is None else "Start again",
            key=state.BEGIN,
            icon=":material/play_arrow:",
            type="primary",
            on_click=notes.write,
            args=(notes.LIVE, True),
            disabled=not available,
        )
        return
    live = session.live
    if state_name == "paused":
        st.button("Resume", key=state.RESUME, icon=":material/play_arrow:", type="primary", on_click=live.resume)
    else:
        st.button("Pause", key=state.PAUSE, icon=":material/pause:", on_click=live.pause)
    st.button("Stop", key=state.STOP, icon=":material/stop:", on_click=session.stop)


def _settings(record: dx.ExitRecord, *, disabled: bool) -> None:
    names = {"all": f"all {record.n_images:,}", "endless": "until stopped"}
    with st.popover("Settings", icon=":material/tune:", key=state.MORE, on_change="rerun", disabled=disabled) as box:
        if box.open:
            _engine(disabled=disabled)
    st.selectbox("Batch size", state.BATCHES, key=state.BATCH, width=120, disabled=disabled, persist_state="session")
    st.selectbox(
        "Images",
        state.counts_for(record),
        format_func=lambda count: names.get(count) or f"{int(count):,}",
        key=state.COUNT,
        width=150,
        disabled=disabled,
        persist_state="session",
    )


def _engine(*, disabled: bool) -> None:
    options: dict[str, Any] = {"required": True, "disabled": disabled, "persist_state": "session"}
    st.segmented_control(
        "Engine",
        live_session.engines(),
        format_func=state.ENGINES.__getitem__,
        key=state.ENGINE,
        help=ENGINE_HELP.format(dx.inference.ENGINES["stream"]),
        **options,
    )
    st.segmented_control(
        "Precision",
        state.precisions(),
        format_func=state.PRECISIONS.__getitem__,
        key=state.PRECISION,
        help="**bf16**: autocast to bfloat16, with torch. **int8**: whole numbers, with ONNX. Some images then exit "
        "elsewhere than recorded.",
        **options,
    )
    if dx.inference.gpu_use() is not None:
        devices = state.DEVICES
        st.segmented_control("Device", list(devices), format_func=devices.__getitem__, key=state.DEVICE, **options)


def measurement_help() -> None:
    with st.popover("How it is measured", icon=":material/help:", key=state.HELP, on_change="rerun") as box:
        if box.open:
            st.markdown(MEASURED_HELP)


def unavailable(run: dx.Run, reason: Exception) -> None:
    """Why no live run can be started here; weights that can be fetched are offered."""
    wanted = downloads.missing_weights_of(run)
    if wanted is None:
        messages.notice(f"There is no live run of this model here. {messages.escape_markdown(reason, 500)}")
    else:
        fetch_offer.offer(wanted, "A live run needs the model. The numbers above are recorded.")


def start(run: dx.Run, split: str, policy: dx.Policy, record: dx.ExitRecord) -> LiveSession | None:
    """Start a live run with the chosen settings; None, and the reason, if that fails."""
    try:
        return state.start(run, split, policy, record)
    except model_queries.UNAVAILABLE as error:
        messages.problem("The live run could not start.", error)
        return None


def current(run: dx.Run, split: str) -> LiveSession | None:
    """The session's live run of this record; one of another record is ended, and reported if it was at work."""
    session = state.current()
    if session is None or session.record_key == live_session.record_key(run, split):
        return session
    alive, stopped = session.live.look().alive, state.end()
    if alive:
        what = "was ended" if stopped else "is left to the page that began it; without one it ends in a minute"
        messages.notice(f"Another run or split was chosen, so the live run {what}.")
    return None

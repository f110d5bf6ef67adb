"""Live: the real engine answers recorded images on this machine, the full model in turn; the threshold moves meanwhile.

In: a run with its weights and a recorded split. Out: what a `LiveRun` counts: measured speed-up beside the promised
one, exits taken, agreement with the record. Sessions take turns (`turn`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import live_panel, run_picker, threshold_controls, widgets
from dmpo_explore_app.components.threshold_slider import data as data_module
from dmpo_explore_app.components.threshold_slider import threshold_slider
from dmpo_explore_app.services import cache, live_session
from dmpo_explore_app.state import calibration, choices, links, operating_point, url

import dmpo_explore as dx
from dmpo_explore.inference.torch_live import ENGINES, device_found

BATCHES, FIRST_BATCH = ("1", "8", "32", "64", "128", "256"), "64"
COUNTS, FIRST_COUNT = ("200", "1000", "all", "endless"), "1000"
SETTINGS = ("batch", "count", "engine")
KEYS = (
    "run",
    "split",
    "policy",
    "threshold",
    calibration.KEY,
    *operating_point.WISHES,
    *SETTINGS,
)  # of the address and the state
EVERY = 1.0  # seconds between two looks
ENGINE_NAMES = {"infer": "infer", "stream": "stream with refill"}
ENGINE_HELP = (
    "**infer** answers one batch after another; who leaves is dropped, so deep stages see smaller batches.  \n"
    f"**stream with refill** takes {ENGINES['stream']} batches at a time; who stays waits until a batch is full again."
)


class View(NamedTuple):
    """What is chosen."""

    run: dx.Run
    split: str
    record: dx.ExitRecord
    policy: dx.Policy
    summary: dict[str, Any]


def page() -> None:
    """Title, then the workbench, or what is wrong with the run."""
    top = st.container(horizontal=True, vertical_alignment="center", gap="small")
    top.title("What does leaving early save here?", anchor=False)
    names = dx.list_runs()
    if not names:
        widgets.no_runs()
        return
    if url.follow(KEYS):
        st.session_state["_fresh"] = True
    try:
        workbench(names)
    except (OSError, ValueError) as error:
        messages.problem("This run cannot be shown.", error)
    with top:
        how()
        st.caption(f":material/memory: {messages.plain(device_found())}", width="content")  # last: it imports torch


def workbench(names: Sequence[str]) -> None:
    """Choices, the threshold and what the record says of it, then the live run."""
    found = run_picker.settle(names)
    if found is None:
        return
    run, split, record, policy = found[:4]
    view = View(run, split, record, policy, dx.summarise(record, policy.exits(record)))
    found.row()
    settle(record)
    promise(view)
    engine_room(view)
    remember(view)


def promise(view: View) -> None:
    """The slider, and what the record says of its threshold."""
    run, split, policy = view.run, view.split, view.policy
    tables = {run.name: cache.trade_off(run, split, policy.name, bool(policy.temperatures))}
    source = f"{threshold_controls.source(run, split, policy)} They are the record's; those of this machine come below."
    seq = st.session_state.get("_seq", 0)
    data = data_module.cockpit(run, split, policy, tables, seq=seq, source=source)
    data["compact"] = True
    if widgets.live():
        threshold_slider(data, operating_point.COCKPIT, operating_point.moved, lambda: None)
        return
    threshold_controls.native(data)
    st.caption(messages.plain(source, 500))
    widgets.headline(view.summary)


def settle(record: dx.ExitRecord) -> None:
    """Batch size, number of images and engine, before their widgets are drawn."""
    choices.settle("batch", BATCHES, FIRST_BATCH, "batch size")
    counts = counts_for(record)
    choices.settle("count", counts, FIRST_COUNT if FIRST_COUNT in counts else "all", "number of images")
    choices.settle("engine", tuple(ENGINES), "infer", "engine")


def counts_for(record: dx.ExitRecord) -> list[str]:
    """How many images can be asked for."""
    return [count for count in COUNTS if not count.isdecimal() or int(count) < record.n_images]


def images_of(count: str, record: dx.ExitRecord) -> int | None:
    """What `LiveRun` takes for it."""
    return None if count == "endless" else record.n_images if count == "all" else int(count)


def engine_room(view: View) -> None:
    """Settings and buttons; below them what the live run counts."""
    found = live_session.current()
    if found is not None and found.of != live_session.of(view.run, view.split):
        if found.live.look().alive:
            messages.notice("Another run or split was chosen, so the live run was ended.")
        live_session.end()
        found = None
    reason = live_session.hindrance(view.run)
    row = st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="engine_room")
    place = st.container()
    with place:
        if st.session_state.pop("_begin", False) and reason is None:
            found = begin(view)
        if reason is not None:
            messages.problem("There is no live run of this model here.", reason)
    alive = found is not None and found.live.look().alive
    if found is not None and alive:
        found.live.use(view.policy)
    with row:
        controls(view.record, found, alive, possible=reason is None)
    if found is None:
        if reason is None:
            st.caption(
                "Start, and the engine answers these images on this machine, each leaving where the threshold lets it "
                "go; the full model answers the same images in turn. Move the threshold while it runs."
            )
        return
    picture = widgets.picture_source(view.run, view.split)
    watched = st.fragment(watch, run_every=EVERY if alive else None)
    watched(found, view, picture, alive)


def watch(found: live_session.Running, view: View, picture: Callable[[int], str] | None, alive: bool) -> None:
    """Draw what was counted; once it has ended, draw the page anew, and no more looks are taken."""
    more = {"policy": view.policy.name, "threshold": operating_point.text(view.policy)}
    more |= {calibration.KEY: "1"} if calibration.on() else {}
    look = live_panel.panel(found, view.record, picture, lambda row: links.href(view.run, view.split, row, **more))
    if alive and not look.alive:
        st.rerun()


def begin(view: View) -> live_session.Running | None:
    """Start a live run; None, and why, if that fails."""
    state = st.session_state
    try:
        return live_session.start(
            view.run,
            view.split,
            view.policy,
            batch_size=int(state["batch"]),
            images=images_of(state["count"], view.record),
            engine=state["engine"],
        )
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the device's, such as out of memory
        messages.problem("The live run could not begin.", error)
        return None


def controls(record: dx.ExitRecord, found: live_session.Running | None, alive: bool, *, possible: bool) -> None:
    """Settings, which rest while it runs, and start, pause, stop; in the row that is open."""
    kept: dict[str, Any] = {"disabled": alive, "persist_state": "session"}
    st.selectbox("Batch size", BATCHES, key="batch", width=120, **kept)
    st.selectbox(
        "Images",
        counts_for(record),
        format_func=lambda count: {"all": f"all {record.n_images:,}", "endless": "until stopped"}.get(count, count),
        key="count",
        width=150,
        help="In a fixed mixed order. Until stopped: round and round.",
        **kept,
    )
    st.segmented_control(
        "Engine",
        list(ENGINES),
        format_func=ENGINE_NAMES.__getitem__,
        key="engine",
        required=True,
        help=ENGINE_HELP,
        **kept,
    )
    if found is None or not alive:
        name = "Start" if found is None else "Start again"
        st.button(
            name, key="begin", icon=":material/play_arrow:", type="primary", on_click=_begin, disabled=not possible
        )
        return
    if found.live.look().state == "paused":
        st.button("Go on", key="resume", icon=":material/play_arrow:", type="primary", on_click=found.live.resume)
    else:
        st.button("Pause", key="pause", icon=":material/pause:", on_click=found.live.pause)
    st.button("Stop", key="stop", icon=":material/stop:", on_click=found.live.stop, args=(live_session.WAIT,))


def _begin() -> None:
    st.session_state["_begin"] = True


def remember(view: View) -> None:
    """Keep the choices in the address, and the compute for when run or policy change."""
    state = st.session_state
    parts = {"run": view.run.name, "split": view.split, "policy": view.policy.name}
    if view.record.n_exits > 1:
        state["_compute"] = view.summary["flops_fraction"]
        parts["threshold"] = operating_point.text(view.policy)
        parts |= {calibration.KEY: "1"} if calibration.on() else {}
        parts |= {key: f"{value:g}" for key in operating_point.WISHES if (value := state.get(key)) is not None}
    usual = {"batch": FIRST_BATCH, "count": FIRST_COUNT, "engine": "infer"}
    url.write(**parts, **{key: state[key] for key in SETTINGS if state[key] != usual[key]})


def how() -> None:
    """How it is measured, one click away."""
    with st.popover("How it is measured", icon=":material/help:", key="measured", on_change="rerun") as box:
        if not box.open:
            return
        st.markdown(
            "**Two arms** answer the same images, call by call, and take turns in coming first, so that whatever "
            "disturbs the machine disturbs both. One lets every image leave where the threshold says. The other, the "
            "full model, has the same weights and runs every block, but asks the last exit only: what one would use "
            "without early exits.\n\n"
            "**A call** is timed from pictures that lie ready, resized, to answers on the host. Both arms run in "
            "float32 with the tuning folded into the weights where that can be done.\n\n"
            "**Promised** is the ratio of FLOPs: those of the plain backbone over the mean of the exits that these "
            "images took, everything that ran counted. Measured is the ratio of seconds. Small batches, short layers "
            "and the work between the stages keep it below the promise.\n\n"
            "**Latency** is that of a call: half of the calls are at most as long as p50, 95% as p95. A call ends when "
            "all of its images are answered; smaller ones at the end do not count for it. The spread of the speed-up "
            "lies between the lowest and the highest tenth of the calls.\n\n"
            "**Agreement**: every exit and answer is held against the record, under the threshold that decided about "
            "it. When the threshold moves, speed, exits and accuracy are counted anew; agreement goes on."
        )


page()

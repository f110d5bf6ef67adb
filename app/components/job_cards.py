"""Cards of the background trainings, drawn every second while one runs: progress; on this machine log and buttons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import job_texts, learning_curves
from dmpo_explore_app.state import choices, notes, panels
from dmpo_explore_app.state import jobs as state

import dmpo_explore as dx

REFRESH = 1.0  # seconds between two updates
LOG_HEIGHT = 240
ICONS = {
    dx.jobs.RUNNING: ":material/model_training:",
    dx.jobs.STOPPING: ":material/hourglass_bottom:",
    dx.jobs.FINISHED: ":material/check_circle:",
    dx.jobs.STOPPED: ":material/stop_circle:",
    dx.jobs.FAILED: ":material/error:",
    dx.jobs.DELETED: ":material/delete:",
}
Found = list[tuple[dx.jobs.Job, dx.jobs.Status]]


def panel(names: Sequence[str]) -> None:
    """An error of the last button, and a card for every job; ``names``: of all runs."""
    if text := notes.take(notes.JOB):
        st.error(messages.with_code(text), icon=":material/error:")
    found = _jobs()
    if not found:
        return
    running = any(status.active for _, status in found)
    state.keep_snapshot(_snapshot(found))
    by_age = sorted(found, key=lambda pair: pair[0].began)
    state.show_ended({job.name: status.active for job, status in by_age}, names)
    st.header("Background trainings", anchor=False)
    st.fragment(_cards, run_every=REFRESH if running else None)()


def running() -> list[str]:
    return [job.name for job, status in _jobs() if status.active]


def _jobs() -> Found:
    return [(job, dx.jobs.job_status(job)) for job in dx.jobs.list_jobs()]


def _snapshot(found: Found) -> state.Snapshot:
    return tuple((job.name, status.state, status.epoch, status.recorded) for job, status in found)


def _cards() -> None:
    found = _jobs()
    for job, status in found:
        with st.container(border=True):
            _card(job, status)
    if state.outdated(_snapshot(found)):
        st.rerun()  # curves and lists of runs change too


def _card(job: dx.jobs.Job, status: dx.jobs.Status) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title = f"{ICONS[status.state]} **{messages.escape_markdown(job.name)}** · {job_texts.headline(status)}"
        st.markdown(title, width="stretch")
        _buttons(job, status)
    if status.active and status.progress is not None:
        progress = status.progress
        text = job_texts.progress_text(status, progress, state.rates_before(job.name))
        st.progress(min(1.0, progress.done / max(1, progress.total)), text=text)
    elif status.state == dx.jobs.RUNNING:
        st.progress(0.0, text="Starting: loading libraries, images and weights …")
    if status.active and status.epoch:
        learning_curves.live(job.name)
    if status.state == dx.jobs.FAILED:
        reason = status.reason if access.is_private() else "It failed; its log is on the app's own machine."
        st.error(messages.with_code(reason), icon=":material/error:")
    if status.state == dx.jobs.DELETED:
        messages.notice("Its run is missing: the folder was removed or renamed.")
    if access.is_private():
        # The height is the container's and by key, so that the code's own copy button stays reachable by keyboard.
        log = st.expander("Log", icon=":material/terminal:", key=panels.key("log", job.name))
        log.container(height=LOG_HEIGHT, border=False).code(job.log() or " ", language=None, wrap_lines=True)


def _buttons(job: dx.jobs.Job, status: dx.jobs.Status) -> None:
    finished = status.state == dx.jobs.FINISHED
    if finished and st.button("Open in Explore", key=panels.key("open", job.name), icon=":material/tune:"):
        choices.choose_run(job.name)
        st.switch_page("views/explore.py", query_params={"run": job.name})
    if not access.is_private():
        return
    offers: list[tuple[str, str, Callable[[str], object]]] = [("Remove card", ":material/close:", dx.jobs.forget)]
    if status.active:
        offers = [("Stop", ":material/stop:", dx.jobs.stop)]
    if status.resumable:
        offers.insert(0, ("Resume" if status.epoch else "Start again", ":material/play_arrow:", dx.jobs.resume))
    for label, icon, action in offers:
        # A callback: a click counts even if an epoch ends at this moment and the page is drawn again.
        st.button(
            label,
            key=panels.key(label, job.name),
            icon=icon,
            disabled=status.state == dx.jobs.STOPPING,
            on_click=_act,
            args=(action, job.name),
        )


def _act(action: Callable[[str], object], name: str) -> None:
    try:
        access.check_private("Trainings are controlled")
        if action is dx.jobs.resume and (others := [other for other in running() if other != name]):
            raise FileExistsError(f"{others[0]!r} is being trained; {name!r} can go on when it has ended or is stopped")
        action(name)
    except (OSError, ValueError) as error:
        notes.write(notes.JOB, str(error))

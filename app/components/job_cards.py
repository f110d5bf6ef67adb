"""Trainings in the background as cards: how far, how quick, what to do about it.

In: `jobs.list_jobs` under the runs root. Out: a card for each with its progress, its log, and buttons that stop it, let
it go on, open its run or put it away. The card draws itself anew every second while something runs.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.services import record_folder

from dmpo_explore import jobs
from dmpo_explore.jobs.estimate import Rates

EVERY = 1.0  # seconds between two looks
LOG_HEIGHT = 240
Seen = tuple[tuple[str, str, int, tuple[str, ...]], ...]
ICONS = {
    jobs.RUNNING: ":material/model_training:",
    jobs.STOPPING: ":material/hourglass_bottom:",
    jobs.FINISHED: ":material/check_circle:",
    jobs.STOPPED: ":material/stop_circle:",
    jobs.FAILED: ":material/error:",
    jobs.DELETED: ":material/delete:",
}


def panel() -> None:
    """A card for every job; nothing without any."""
    found = [(job, jobs.job_status(job)) for job in jobs.list_jobs()]
    if not found:
        return
    running = any(status.active for _, status in found)
    st.session_state["_jobs_seen"] = seen(found)
    st.header("In the background", anchor=False)
    st.fragment(_cards, run_every=EVERY if running else None)()


def seen(found: list[tuple[jobs.Job, jobs.Status]]) -> Seen:
    """What the rest of the page depends on."""
    return tuple((job.name, status.state, status.epoch, status.recorded) for job, status in found)


def _cards() -> None:
    found = [(job, jobs.job_status(job)) for job in jobs.list_jobs()]
    for job, status in found:
        with st.container(border=True):
            card(job, status)
    if seen(found) != st.session_state.get("_jobs_seen") or "_job_error" in st.session_state:
        st.rerun()  # an epoch, a record or an end: curves and lists of runs change too


def card(job: jobs.Job, status: jobs.Status) -> None:
    """One job."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{ICONS[status.state]} **{messages.plain(job.name)}** · {headline(status)}", width="stretch")
        buttons(job, status)
    if status.active and status.progress is not None:
        progress = status.progress
        st.progress(min(1.0, progress.done / max(1, progress.total)), text=said(status, measured(job)))
    elif status.state == jobs.RUNNING:
        st.progress(0.0, text="Starting: libraries, pictures and weights are being loaded …")
    if status.state == jobs.FAILED:
        reason = status.reason if record_folder.is_private() else "It failed; its log is on the app's own machine."
        st.error(messages.plain(reason, 500), icon=":material/error:")
    if status.state == jobs.DELETED:
        messages.notice("Its run is not there any more: somebody removed or renamed the folder.")
    if not record_folder.is_private():
        return  # the log, like the reason, names folders of this machine
    scrolls = st.expander("Log", icon=":material/terminal:", key=f"log {job.name}").container(
        height=LOG_HEIGHT, border=False
    )  # by key too, for the button in it: code with a height of its own has none inside
    scrolls.code(job.log() or " ", language=None, wrap_lines=True)


def headline(status: jobs.Status) -> str:
    """State in words."""
    epochs = f"{status.epoch} of {status.epochs} epochs"
    match status.state:
        case jobs.RUNNING:
            recording = status.progress is not None and status.progress.what.startswith("recording")
            return f"{status.progress.what}, {epochs}" if recording and status.progress else f"training, {epochs} done"
        case jobs.STOPPING:
            return "stopping …"
        case jobs.FINISHED:
            return f"trained and recorded, {epochs}"
        case jobs.STOPPED:
            return f"stopped, {epochs} kept" if status.epoch else "stopped before the first epoch was finished"
        case jobs.FAILED:
            return f"failed, {epochs} kept" if status.epoch else "failed"
        case _:
            return "its run is gone"


def said(status: jobs.Status, rates: Rates | None) -> str:
    """Where it is, how quick it really is and was thought to be, when it will be done, what it holds."""
    progress = status.progress
    assert progress is not None
    parts = [f"{progress.done:,} of {progress.total:,} {'steps' if progress.epochs else 'images'}"]
    if progress.epochs:
        parts[0] = f"epoch {progress.epoch} of {progress.epochs}, {parts[0]}"
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.seconds_each is not None and progress.epochs:
        thought = f" (measured before: {span(rates.steps)})" if rates else ""
        parts.append(f"{short(progress.seconds_each)} a step{thought}")
    if progress.seconds_left is not None:
        more = ", then recording" if progress.epochs else ""
        parts.append(f"about {clock(progress.seconds_left)} left{more}")
    if status.memory:
        parts.append(f"{status.memory / 2**30:.1f} GiB now, {progress.memory / 2**30:.1f} at most")
    return " · ".join(parts)


def measured(job: jobs.Job) -> Rates | None:
    """What this session measured before it started the job."""
    found: dict[str, Rates | None] = st.session_state.get("_rates_of", {})
    return found.get(job.name)


def buttons(job: jobs.Job, status: jobs.Status) -> None:
    """What can be done about a job; on an app that others reach nothing but looking."""
    if status.state == jobs.FINISHED and st.button("Open in Explore", key=f"open {job.name}", icon=":material/tune:"):
        st.session_state["run"] = job.name
        st.switch_page("views/explore.py", query_params={"run": job.name})
    if not record_folder.is_private():
        return
    offers: list[tuple[str, str, Callable[[str], object]]] = [("Put away", ":material/close:", jobs.forget)]
    if status.active:
        offers = [("Stop", ":material/stop:", jobs.stop)]
    if status.resumable:
        offers.insert(0, ("Go on" if status.epoch else "Start again", ":material/play_arrow:", jobs.resume))
    for label, icon, what in offers:
        # A callback: a click counts even if an epoch ends at this moment and the page is drawn anew.
        st.button(
            label,
            key=f"{label} {job.name}",
            icon=icon,
            disabled=status.state == jobs.STOPPING,
            on_click=_act,
            args=(what, job.name),
        )


def _act(what: Callable[[str], object], name: str) -> None:
    """Do it; what goes wrong becomes a notice on the page that is drawn next."""
    try:
        what(name)
    except (OSError, ValueError) as error:
        st.session_state["_job_error"] = str(error)


def error() -> None:
    """What went wrong with the last button, once."""
    if text := st.session_state.pop("_job_error", ""):
        st.error(messages.plain(text, 500), icon=":material/error:")


def running() -> list[str]:
    """Names of the jobs that run."""
    return [job.name for job in jobs.list_jobs() if jobs.job_status(job).active]


# -- words --


def clock(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def short(seconds: float) -> str:
    """A step's time: ``52 ms``, ``1.3 s``."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def span(steps: tuple[float, ...]) -> str:
    """From the quickest to the slowest."""
    return f"{short(min(steps))} to {short(max(steps))}"

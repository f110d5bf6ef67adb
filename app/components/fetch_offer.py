"""An offer to fetch what a page lacks: what it is, size, licence, source, a button (a command for other machines),
progress. The download is a process of its own: it outlives the page and the browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from dmpo_explore_app import access
from dmpo_explore_app.components import job_texts
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import downloads
from dmpo_explore_app.state import notes, panels

import dmpo_explore as dx

REFRESH = 1.0  # seconds between two updates
WHAT = {"backbone": "Weights", "data": "Images"}


def offer(wanted: dx.jobs.Fetchable, without: str, place: str = "") -> None:
    """What is missing, and its download, which draws the page again; ``place`` tells two offers of a page apart."""
    status = downloads.status(wanted)
    active = status is not None and status.active
    with st.container(border=True, key=panels.key(f"offer{place}", wanted.kind, wanted.name)):
        st.markdown(f":material/cloud_download: **{heading(wanted)}**  \n{escape_markdown(without)}")
        st.caption(facts(wanted))
        st.fragment(_download, run_every=REFRESH if active else None)(wanted, active, place)


def heading(wanted: dx.jobs.Fetchable) -> str:
    """What is missing, as Markdown: ``Weights not fetched yet: ViT-S/14``."""
    name = wanted.title.split("," if wanted.kind == "backbone" else ":")[0]
    return f"{WHAT[wanted.kind]} not fetched yet: {escape_markdown(name)}"


def facts(wanted: dx.jobs.Fetchable) -> str:
    """Title, size, licence and source, as Markdown."""
    licence = wanted.licence if wanted.licence.startswith("not ") else f"licence {wanted.licence}"
    parts = [wanted.title, size(wanted.n_bytes), licence.replace("not stated", "licence not stated"), wanted.origin]
    return " · ".join(escape_markdown(part) for part in parts if part)


def size(n_bytes: int) -> str:
    """Bytes in words: ``about 90 MB``; empty where they are not known."""
    return f"about {n_bytes / 1e6:.0f} MB" if n_bytes else ""


def _download(wanted: dx.jobs.Fetchable, was_active: bool, place: str) -> None:
    status = downloads.status(wanted)
    if was_active and (status is None or not status.active):
        st.rerun()
    if text := notes.take(notes.DOWNLOAD):
        st.warning(escape_markdown(text, 500), icon=":material/info:")
    if status is not None and status.active:
        _progress(wanted, status, place)
        return
    if status is not None and status.state == dx.jobs.FAILED:
        reason = status.reason if access.is_private() else "The reason is on the app's own machine."
        st.warning(f"The last download failed. {escape_markdown(reason, 500)}", icon=":material/info:")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if access.is_private():
            again = status is not None and status.state in (dx.jobs.FAILED, dx.jobs.STOPPED)
            label = "Try again" if again else f"Fetch {size(wanted.n_bytes).removeprefix('about ')}".strip()
            _button(label, ":material/download:", f"fetch{place}", wanted, downloads.start, type="primary")
        where = "Or in a terminal" if access.is_private() else "In a terminal on the app's own machine"
        st.caption(f"{where}: `{wanted.command}`")


def _progress(wanted: dx.jobs.Fetchable, status: dx.jobs.DownloadStatus, place: str) -> None:
    now = status.progress
    share, text = 0.0, "Starting …"
    if now is not None and now.total:
        share, text = min(1.0, now.done / now.total), now.what
        if now.total > 1:
            text += f" · {now.done / 1e6:.0f} of {now.total / 1e6:.0f} MB"
        if now.seconds_left is not None and now.done < now.total:
            text += f" · about {job_texts.duration(now.seconds_left)} left"
    stopping = status.state == dx.jobs.STOPPING
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(share, "Stopping …" if stopping else escape_markdown(text), width="stretch")
        if access.is_private():
            _button("Cancel", ":material/close:", f"cancel{place}", wanted, downloads.stop, disabled=stopping)


def _button(
    label: str, icon: str, part: str, wanted: dx.jobs.Fetchable, act: Callable[[dx.jobs.Fetchable], None], **looks: Any
) -> None:
    if st.button(label, key=panels.key(part, wanted.kind, wanted.name), icon=icon, **looks):
        try:
            act(wanted)
        except (OSError, ValueError) as error:
            notes.write(notes.DOWNLOAD, str(error))
        st.rerun()

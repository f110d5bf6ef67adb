"""Notes of a session that a page leaves for its next drawing: what a button asked for, why something was refused."""

from __future__ import annotations

from typing import Any

import streamlit as st

MAPS, CHECK, FORECAST, LIVE, STARTED, TIMED = (
    "maps",
    "check of maps",
    "forecast",
    "live run",
    "started job",
    "timed",
)  # what was asked for, or done
JOB, DOWNLOAD, UPLOAD, ZIP, TIMES = "job", "download", "upload", "zip", "times"  # what was refused, as text


def write(name: str, note: object) -> None:
    """Keep a note; None withdraws it."""
    st.session_state[f"_note {name}"] = note


def read(name: str) -> Any:
    """The note, or None."""
    return st.session_state.get(f"_note {name}")


def take(name: str) -> Any:
    """The note, once."""
    return st.session_state.pop(f"_note {name}", None)

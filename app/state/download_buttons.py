"""Session state of downloads: keys of their buttons, and the error of the last one."""

from __future__ import annotations

import streamlit as st

import dmpo_explore as dx

_ERROR = "_download_error"


def key(part: str, wanted: dx.jobs.Fetchable) -> str:
    """Key of the button ``part`` of an offer."""
    return f"{part} {wanted.kind} {wanted.name}"


def keep_error(error: Exception) -> None:
    """Keep an error of a button until the page is drawn again."""
    st.session_state[_ERROR] = str(error)


def take_error() -> str:
    """The error that was kept, once; empty if there is none."""
    return str(st.session_state.pop(_ERROR, ""))

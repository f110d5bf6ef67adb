"""What a page tells its reader: notices, problems, and text whose Markdown is escaped."""

from __future__ import annotations

import re

import streamlit as st


def plain(text: object, longest: int = 200) -> str:
    """``text`` as Markdown that shows it literally, shortened."""
    short = str(text) if len(str(text)) <= longest else str(text)[: longest - 1] + "…"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", short)


def notice(text: str) -> None:
    """Say what was not as asked and what is shown instead; ``text`` is Markdown."""
    st.warning(text, icon=":material/info:")


def problem(what: str, error: Exception) -> None:
    """Say that something cannot be shown, and why; the library's errors name the fix."""
    st.error(f"**{what}**  \n{plain(error, 500)}", icon=":material/error:")

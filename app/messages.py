"""Messages to the reader: notices, problems, and text whose Markdown is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from dmpo_explore_app import access


def escape_markdown(text: object, longest: int = 200) -> str:
    """``text`` as Markdown that shows it literally, shortened; to other machines without paths."""
    short = access.without_paths(str(text))
    short = short if len(short) <= longest else short[: longest - 1] + "…"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", short)


def notice(text: str) -> None:
    """Show that a value could not be used and what is shown instead; ``text`` is Markdown."""
    st.warning(text, icon=":material/info:")


def problem(what: str, error: Exception) -> None:
    """Show what cannot be shown and why; the library's errors name the remedy."""
    st.error(f"**{what}**  \n{escape_markdown(error, 500)}", icon=":material/error:")


@contextmanager
def problems(what: str) -> Iterator[None]:
    """Turn an OSError or ValueError inside into `problem`, at the place on the page that was reached."""
    try:
        yield
    except (OSError, ValueError) as error:
        problem(what, error)

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


def with_code(text: object, longest: int = 500) -> str:
    """As `escape_markdown`, for texts of the library: what stands in backticks there is shown as code."""
    short = access.without_paths(str(text))
    short = short if len(short) <= longest else short[: longest - 1] + "…"
    parts = re.split(r"(`[^`\n]+`)", short)
    return "".join(part if i % 2 else escape_markdown(part, longest) for i, part in enumerate(parts))


def signed(number: float, digits: int = 2) -> str:
    """``+0.13`` or ``−0.19``: with the minus sign that figures use.

    >>> signed(0.126), signed(-0.194), signed(-0.001)
    ('+0.13', '−0.19', '0.00')
    """
    text = f"{number:+.{digits}f}"
    return text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def notice(text: str) -> None:
    """Show that a value could not be used and what is shown instead; ``text`` is Markdown."""
    st.warning(text, icon=":material/info:")


def problem(what: str, error: Exception) -> None:
    """Show what cannot be shown and why; the library's errors name the remedy."""
    st.error(f"**{what}**  \n{with_code(error)}", icon=":material/error:")


@contextmanager
def problems(what: str) -> Iterator[None]:
    """Turn an OSError or ValueError inside into `problem`, at the place on the page that was reached."""
    try:
        yield
    except (OSError, ValueError) as error:
        problem(what, error)

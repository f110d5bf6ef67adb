"""Colours of charts on a dark page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import streamlit as st
from dmpo_explore_app.components import widgets


@pytest.mark.parametrize(("theme", "blue", "first"), [
    ("dark", "rgb(89.25, 163.35, 204.95)", "rgb(119.8, 149.7, 180.25)"),
    ("light", "#0072B2", "rgb(47, 93, 140)"),
])  # fmt: skip
def test_lines_are_lighter_on_a_dark_page(theme: str, blue: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(st.context), "theme", SimpleNamespace(type=theme))
    assert [widgets.seen(colour) for colour in ("#0072B2", "rgb(47, 93, 140)")] == [blue, first]
    assert widgets.seen("white") == "white"

"""A session without a page."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for `st.session_state`; texts of warnings go to its ``said``."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("streamlit.session_state", found)
    monkeypatch.setattr("streamlit.warning", lambda text, **how: found.setdefault("said", []).append(text))
    return found

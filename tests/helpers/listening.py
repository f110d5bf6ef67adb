"""Where the app listens, for tests without a server: AppTest does not read `.streamlit/config.toml`."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st


def listen(monkeypatch: pytest.MonkeyPatch, address: str | None = "localhost", *allowed_hosts: str) -> None:
    """Let Streamlit say that it listens there and answers to these host names."""
    real = st.get_option
    told: dict[str, Any] = {"server.address": address, "server.allowedHosts": list(allowed_hosts)}
    monkeypatch.setattr(st, "get_option", lambda name: told[name] if name in told else real(name))

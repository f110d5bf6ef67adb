"""A tiny trained run for pages, and a webcam."""

from __future__ import annotations

import pytest
from tiny import recorded_run, tiny_config

from dmpo_explore.runs.run import Run


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained and recorded run with random backbone weights, three exits, on digits."""
    return recorded_run(tmp_path_factory.mktemp("web"), tiny_config(200, {"exits": 3}, epochs=1), "mine")


@pytest.fixture
def webcam() -> str:
    """A script that gives a page a webcam: a grey picture."""
    return """() => {
        const canvas = Object.assign(document.createElement("canvas"), {width: 320, height: 240});
        const context = canvas.getContext("2d");
        setInterval(() => (context.fillStyle = "#888", context.fillRect(0, 0, 320, 240)), 50);
        const value = async () => canvas.captureStream(20);
        Object.defineProperty(navigator.mediaDevices, "getUserMedia", {value, configurable: true});
    }"""

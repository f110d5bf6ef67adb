"""A tiny trained run for pages, exports without graphs, and a webcam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config

from dmpo_explore.inference import torch_export
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.runs.run import Run
from dmpo_explore.training.train import train


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained and recorded run with random backbone weights, three exits, on digits."""
    root = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        run = train(tiny_config(200, model={"exits": 3}, epochs=1), "mine", device="cpu")
        for split in ("val", "test"):
            record_run(run, split, device="cpu")
    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graphs: what is tested are the files around them."""

    def stage(model: Any, k: int, x: Any, side: Any, path: Path) -> tuple[dict[str, Any], Any, Any]:
        path.write_bytes(b"graph")
        return {"file": path.name, "inputs": ["x"], "outputs": ["logits"]}, x, side

    monkeypatch.setattr(torch_export, "_export_stage", stage)
    monkeypatch.setattr(torch_export, "_check", lambda model, folder: None)


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

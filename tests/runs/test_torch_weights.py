"""Weights are written whole or not at all, and broken files are named."""

from __future__ import annotations

import json
import pickle

import pytest
from run_folders import CONFIG

from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import save_weights


def test_broken_weights_are_named(trained: Run) -> None:
    path = trained.path / "weights.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-10], whole[:20], pickle.dumps({"a": 1}), json.dumps({"a": 1}).encode()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.safetensors is not a readable safetensors file"):
            load_run("mine").model("cpu")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"run 'mine' has no weights.*--resume"):
        load_run("mine").model("cpu")


def test_a_failed_save_keeps_the_old_weights(trained: Run) -> None:
    before = (trained.path / "weights.safetensors").read_bytes()
    with pytest.raises(AttributeError):
        save_weights(trained.path, {"a": None}, CONFIG.model)  # type: ignore[dict-item]
    assert (trained.path / "weights.safetensors").read_bytes() == before
    assert not list(trained.path.glob(".weights*"))

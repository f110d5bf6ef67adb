"""Run folders in a temporary root: `mine` has a configuration only, `trained` has weights too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_folders import CONFIG, make_run

from dmpo_explore.data.images import load_images
from dmpo_explore.models.factory import build_model
from dmpo_explore.runs import Run, load_run, save_weights, store


@pytest.fixture(autouse=True)
def _roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty runs root and no bundled runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(store, "BUNDLED_RUNS", tmp_path / "bundled")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "mine")


@pytest.fixture
def trained(mine: Path) -> Run:
    """A run whose weights differ from any initialisation."""
    torch.manual_seed(CONFIG.training.seed)
    model = build_model(CONFIG.model, 10)
    with torch.no_grad():
        for parameter in model.trainable_state().values():
            parameter.add_(0.1)
    save_weights(mine, model.trainable_state(), CONFIG.model, load_images("digits", "test").class_names)
    torch.save(model.eval()(torch.ones(1, 3, 32, 32)), mine / "expected.pt")
    return load_run("mine")

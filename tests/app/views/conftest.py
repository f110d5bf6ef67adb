"""Runs with real, tiny models for the pages that need one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dmpo_explore_app.services import models
from made_up import HOSTILE, save_run
from serving import serving
from tiny import recorded_run, tiny_config
from visiting import Server, Visit, new_visit

import dmpo_explore as dx
from dmpo_explore.utils.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with a real, tiny model of three exits, and a made-up run without any. Not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    recorded_run(root, tiny_config(200, {"exits": 3}, epochs=1), "tiny")
    save_run(root, "bare", images=60, class_name=HOSTILE)
    return root


@pytest.fixture(scope="session")
def trained_server(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on `trained_root`."""
    with serving(trained_root, tmp_path_factory.mktemp("trained-server") / "log.txt") as server:
        yield server


@pytest.fixture
def trained(browser: Browser, trained_server: Server) -> Iterator[Visit]:
    """A fresh browser profile on the trained run; afterwards: no error in the console, none shown, none logged."""
    with new_visit(browser, trained_server) as visit:
        yield visit


@pytest.fixture
def trained_runs(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`trained_root` as the library sees it, and a cache of its own for what is kept."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trained_root))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    models._shared().clear()
    return trained_root


def save_weights_of(path: Path, seed: int) -> None:
    """Weights for the run in ``path``, none of them at zero."""
    import torch

    from dmpo_explore.models.factory import build_model
    from dmpo_explore.runs.store import load_run
    from dmpo_explore.runs.torch_model import save_weights
    from dmpo_explore.utils.torch_tools import seeded

    config, names = load_run(path).config, dx.load_images("digits", "test").class_names
    with seeded(config.training.seed):
        model = build_model(config.model, len(names))
    with seeded(seed), torch.no_grad():
        for weight in model.trainable_state().values():
            weight.add_(torch.randn_like(weight) * 0.2)
    save_weights(path, model.trainable_state(), config.model, names)


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root: a model and its record, another model with the same record, and scores without a model."""
    root = tmp_path_factory.mktemp("model-runs")
    write_text(root / "tiny" / "config.json", tiny_config(model={"exits": 3}).to_json())
    save_weights_of(root / "tiny", seed=0)
    dx.record_run(dx.load_run(root / "tiny"), "test", device="cpu")
    shutil.copytree(root / "tiny", root / "foreign")
    save_weights_of(root / "foreign", seed=7)
    facts = root / "foreign" / "records" / "test" / "meta.json"
    write_json(facts, read_json(facts) | {"weights_sha256": ""})  # as earlier versions wrote it
    save_run(root, "scores", images=60)
    return root

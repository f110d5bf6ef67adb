"""Runs roots for the tests of the command line, and a folder of images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import recorded_run, tiny_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with one trained and recorded run, ``mine``, and ``other`` with a single exit."""
    root = tmp_path_factory.mktemp("cli")
    recorded_run(root, tiny_config(300, epochs=3), "mine")
    recorded_run(root, tiny_config(model={"exits": 1}), "other")
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil."""
    root = tmp_path / "runs"
    shutil.copytree(trained, root)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    return root


@pytest.fixture
def no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "more/c.png", ".hidden.png"):
        Image.fromarray(rng.integers(255, size=(20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder

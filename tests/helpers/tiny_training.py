"""A tiny training that stops where a test wants, and what its run folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tiny import tiny_config
from torch import Tensor

from dmpo_explore.config import Config
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint
from dmpo_explore.training.train import train_epochs

CONFIG = tiny_config(epochs=3, batch_size=25)
FILES = ["card.md", "checkpoint.pt", "config.json", "history.csv", "manifest.csv", "weights.safetensors"]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def stop_after(epochs: int, config: Config = CONFIG, name: str = "run", **options: Any) -> None:
    """A kill: the generator is dropped."""
    running = train_epochs(config, name, device="cpu", **options)
    for _ in range(epochs):
        next(running)
    running.close()


def same_history(a: Run, b: Run) -> None:
    pd.testing.assert_frame_equal(a.history().drop(columns="seconds"), b.history().drop(columns="seconds"))


def leaves(state: Any, at: str = "") -> dict[str, Any]:
    """Every value of a nested state by its path."""
    if not isinstance(state, Mapping | list):
        return {at: state}
    pairs = state.items() if isinstance(state, Mapping) else enumerate(state)
    return {path: leaf for key, value in pairs for path, leaf in leaves(value, f"{at}/{key}").items()}


def same_training(a: Run, b: Run) -> None:
    """History, weights and what the checkpoints hold (of optimizer and training parts, too) are equal bit by bit."""
    same_history(a, b)
    saved = [read_checkpoint(run.path / "checkpoint.pt") for run in (a, b)]
    held = [{"run": read_weights(run.path)} | one for run, one in zip((a, b), saved, strict=True)]
    ours, theirs = (leaves({part: one[part] for part in ("run", "weights", "best", "state")}) for one in held)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        assert torch.equal(leaf, theirs[path]) if isinstance(leaf, Tensor) else leaf == theirs[path], path

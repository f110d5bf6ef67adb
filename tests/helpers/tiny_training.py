"""A tiny training that stops where a test wants, and what its run folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from tiny import tiny_config

from dmpo_explore.config import Config
from dmpo_explore.runs.run import Run
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

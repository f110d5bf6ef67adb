"""The smallest real training: scikit-learn's digits and timm's `test_vit` at 32 pixels, random weights, CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dmpo_explore as dx
from dmpo_explore.config import Config, DataConfig, ModelConfig, TrainingConfig

MODEL: dict[str, Any] = {
    "backbone": "test_vit",
    "weights": "random",
    "image_size": 32,
    "exits": 2,
    "rank": 4,
    "bypass_width": 8,
    "channels": 8,
}
TRAINING: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 20,
    "precision": "no",
    "validation_size": 60,
    "predictor_lr": 1e-2,
}


def tiny_config(train_size: int = 100, model: dict[str, Any] | None = None, **training: Any) -> Config:
    """Five steps an epoch; ``training`` changes `TRAINING`, ``model`` changes `MODEL`."""
    return Config(
        DataConfig("digits", train_size=train_size),
        ModelConfig(**MODEL | (model or {})),
        TrainingConfig(**TRAINING | training),
    )


def recorded_run(root: Path, config: Config, name: str = "run") -> dx.Run:
    """A run of ``config`` in the runs root ``root``, trained and recorded on val and test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        run = dx.train(config, name, device="cpu")
        for split in ("val", "test"):
            dx.record_run(run, split, device="cpu")
    return run


def tiny_options(**changes: Any) -> list[str]:
    """`tiny_config` as options of ``dmpo-explore train``."""
    values = {"data": "digits", "train_size": 100} | MODEL | TRAINING | changes
    return [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))]

"""A small run folder: its configuration and how it is written."""

from __future__ import annotations

from pathlib import Path

from dmpo_explore.config import Config, DataConfig, ModelConfig, TrainingConfig

CONFIG = Config(
    DataConfig("digits"),
    ModelConfig("test_vit", "random", image_size=32, exits=2, predictor="linear", read="mean", rank=4, bypass_width=8),
    TrainingConfig(seed=3),
)


def make_run(path: Path, config: Config = CONFIG) -> Path:
    """A run folder with nothing but its configuration."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(config.to_json())
    return path

"""Tiny trainings: one that stops where a test wants, a teacher on digits at larger images, one that is slimmed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tiny import tiny_config
from torch import Tensor

from dmpo_explore.config import Config
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.neighbours.slimming.slim import slim
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint
from dmpo_explore.training.teacher import Teacher
from dmpo_explore.training.train import train, train_epochs

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


SIZE = 48


def train_teacher(folder: Path, config: Config | None = None) -> Run:
    """One that has finished its epochs, in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(folder))
        return train(config or tiny_config(model={"image_size": SIZE}), "big", device="cpu")


def taught(by: Run, **training: Any) -> Config:
    """A student's config: strong augmentation, three views, three epochs."""
    return tiny_config(**{"teacher": str(by.path), "augment": "strong", "teacher_views": 3, "epochs": 3} | training)


def count_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that teachers answer from now on."""
    seen: list[int] = []
    own = Teacher._logits

    def counted(self: Teacher, model: Any, images: Any) -> Any:
        seen.append(len(images))
        return own(self, model, images)

    monkeypatch.setattr(Teacher, "_logits", counted)
    return seen


SLIM: dict[str, Any] = {"heads": 0.5, "ffn": 0.5, "epochs": 2, "images": 40, "device": "cpu"}


def wide_and_slim(model: dict[str, Any] | None = None, splits: tuple[str, ...] = ("val", "test")) -> tuple[Run, Run]:
    """The runs ``wide`` and ``thin`` below the runs root, recorded."""
    pytest.importorskip("torch_pruning", reason="the extra slim is not installed")
    wide = train(tiny_config(model=model), "wide", device="cpu")
    thin = slim(wide, "thin", **SLIM)
    for run in (wide, thin):
        for split in splits:
            record_run(run, split, device="cpu")
    return wide, thin

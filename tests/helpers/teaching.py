"""A finished teacher on digits at larger images, and what it answers, counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config

from dmpo_explore.config import Config
from dmpo_explore.runs.run import Run
from dmpo_explore.training.teacher import Teacher
from dmpo_explore.training.train import train

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

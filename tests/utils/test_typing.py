"""Values at exits, and progress that never falls and ends at the total."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmpo_explore.config import ModelConfig
from dmpo_explore.inference.torch_engine import stream
from dmpo_explore.models.factory import build_model
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.utils.typing import Progress, at_exits


def test_values_at_exits() -> None:
    rng = np.random.default_rng(0)
    values, exits = rng.normal(size=(7, 4, 3)), rng.integers(4, size=7)
    np.testing.assert_array_equal(at_exits(values, exits), [row[k] for row, k in zip(values, exits, strict=True)])
    several = rng.integers(4, size=(5, 7))
    np.testing.assert_array_equal(at_exits(values, several), [at_exits(values, one) for one in several])
    assert at_exits(values[:0], exits[:0]).shape == (0, 3)
    assert at_exits(values > 0, exits).dtype == bool


def test_exits_that_are_not_there_are_refused() -> None:
    with pytest.raises(IndexError):
        at_exits(np.zeros((3, 4)), [0, 1, 4])


def test_progress_rises_to_the_total() -> None:
    reports: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        reports.append((done, total))

    progress: Progress = note
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
    loader = torch.utils.data.DataLoader([torch.zeros(3, 32, 32) for _ in range(10)], batch_size=4)
    stream(model, loader, ConfidencePolicy((1.01,)), progress=progress)
    assert [total for _, total in reports] == [10] * len(reports)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (10, 10)

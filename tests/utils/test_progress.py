"""Progress callbacks: what is done never falls and ends at the total."""

from __future__ import annotations

import torch

from dmpo_explore.config import ModelConfig
from dmpo_explore.inference.torch_engine import stream
from dmpo_explore.models.factory import build_model
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.utils.typing import Progress


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

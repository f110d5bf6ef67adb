"""Small models whose FLOPs are measured, and the FLOPs of a matrix product."""

from __future__ import annotations

from typing import Any

import pytest

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.flops import ModelFlops, measure_flops

C = 7  # classes
R, HIDDEN, CHANNELS, EXITS = 8, 24, 12, (3, 6, 12)


def matmul(*sizes: int) -> int:
    """FLOPs of a product: rows · inner · columns multiply-adds of two operations each."""
    rows, inner, columns = sizes
    return 2 * rows * inner * columns


def config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"backbone": "vit_tiny_patch16_224", "weights": "random", "image_size": 64}
    values |= {"exits": EXITS, "rank": R, "bypass_width": HIDDEN, "channels": CHANNELS}
    return ModelConfig(**(values | changes))


def measured(**changes: Any) -> tuple[Any, ModelFlops]:
    model = assemble(config(**changes), C)
    return model, measure_flops(model, build_reference(config(**changes), C))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=0.01)

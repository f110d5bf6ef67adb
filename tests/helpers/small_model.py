"""A real model small enough for many tests: timm's `test_vit` at 32 pixels, six blocks, random trainable weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.dmpo import DMPO
from dmpo_explore.models.factory import assemble
from dmpo_explore.models.tuning import merge

C, K = 5, 3
SMOOTH: dict[str, Any] = {"predictor": "linear", "spread": 0.1}  # gradients change little along a path


def made(seed: int = 0, spread: float = 0.2, **changes: Any) -> DMPO:
    """In eval mode; ``changes`` of its `ModelConfig`. Every trainable weight is moved, so that no part is at zero.

    ``spread``: standard deviation of the moves. torch and timm draw other starting weights in other versions.
    """
    torch.manual_seed(seed)
    values: dict[str, Any] = {"exits": K, "rank": 4, "bypass_width": 6, "channels": 8} | changes
    backbone, size = values.pop("backbone", "test_vit"), values.pop("image_size", 32)
    model = assemble(ModelConfig(backbone, "random", size, **values), C).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape) * spread)
    return model


def merged(**changes: Any) -> DMPO:
    """`made` with its tuning merged. Tests that export the same one convert its graphs once: `kept_graphs`."""
    model = made(**changes)
    merge(model)
    return model


def smooth(**changes: Any) -> DMPO:
    """A model whose gradients change little along a path."""
    return made(**SMOOTH | changes).requires_grad_(False)


def pictures(n: int = 4, size: int = 32) -> Tensor:
    """(n, 3, size, size) of noise, always the same."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def image() -> Tensor:
    return pictures(1)[0]

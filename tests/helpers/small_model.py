"""Real models small enough for many tests: timm's `test_vit` at 32 pixels, six blocks, random trainable weights.

One reads a known patch and nothing else; of some the FLOPs are measured.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dmpo_explore.config import ModelConfig, Preprocess
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.dmpo import DMPO
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.flops import ModelFlops, measure_flops
from dmpo_explore.models.stage import Stage
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


GRID, PATCH, WIDTH = 4, 8, 6
READS = {0: (1, 2), 1: (3, 0)}  # exit → (row, column) of the patch it reads


class Patches(nn.Module):
    """Images (B,3,32,32) → one token a patch, (B,16,6)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(images).flatten(2).mT


class Attention(nn.Module):
    """All tokens look at one patch; what they see has weight 0, so tokens pass unchanged."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.qkv, self.attn_drop, self.fused_attn, self.patch = nn.Identity(), nn.Dropout(0.5), True, patch

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused_attn:
            looks = torch.zeros(len(x), 1, x.shape[1], x.shape[1])
            looks[..., self.patch] = 1
            self.attn_drop(looks)
        return x


class ReadOne(nn.Module):
    """Logits from the token of one patch."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch, self.fc = patch, nn.Linear(WIDTH, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(x[:, self.patch]))


def reading_model() -> DMPO:
    """Two exits behind blocks 1 and 2."""
    torch.manual_seed(0)
    stages = []
    for row, column in READS.values():
        patch = row * GRID + column
        bypass = BYPASSES["none"](WIDTH, 2, (GRID, GRID), 0)
        trunk = nn.Sequential(Attention(patch))
        stages.append(Stage(trunk, bypass, nn.Identity(), ReadOne(patch), width=WIDTH, grid=(GRID, GRID), prefix=0))
    return DMPO(Patches(), stages, (1, 2), Preprocess(32, (0.5,) * 3, (0.5,) * 3)).eval()


FLOP_CLASSES = 7  # classes
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
    model = assemble(config(**changes), FLOP_CLASSES)
    return model, measure_flops(model, build_reference(config(**changes), FLOP_CLASSES))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=0.01)

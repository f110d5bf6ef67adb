"""A model whose every exit reads one known patch and nothing else: what an attribution must find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmpo_explore.config import Preprocess
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.dmpo import DMPO
from dmpo_explore.models.stage import Stage

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

"""Bypasses that are tried and that the library does not offer: what pays moves there, the rest goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from dmpo_explore.models.bypass import BYPASSES, Bypass


class AttentionBypass(Bypass):
    """x + Up(two transformer blocks(Down(LN x))) on all tokens; ours."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden)
        self.blocks = nn.Sequential(*(Block(hidden, max(1, hidden // 48), mlp_ratio=2.0) for _ in range(2)))
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D), None."""
        return x + self.up(self.blocks(self.down(self.norm(x)))), None


@contextmanager
def offered() -> Iterator[None]:
    """Within it, a config may name them."""
    with patch.dict(BYPASSES, attention=AttentionBypass):
        yield

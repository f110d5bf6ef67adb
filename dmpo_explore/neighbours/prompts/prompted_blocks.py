"""Visual prompt tuning, deep (Jia et al. 2022, arXiv 2203.12119): trained tokens beside those of every block.

In: a ViT whose blocks take tokens (B,N,D). Out: the same, each block attending also to its own prompts. A block's
outputs at its prompts are dropped, as in VPT-Deep, where the next block's prompts replace them: outside a block there
are no prompts, so exits, token merging and heat maps see the plain N tokens. Ours: the prompts stand after the patches,
not before them. Attention has no order, so that changes no number.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class PromptedBlock(nn.Module):
    """A block with prompts: x → the first N tokens of block([x, prompts]).

    Args:
        block: tokens (B,N,D) → (B,N,D), of any N. width: D. count: number of prompts.
        dropout: of the prompts' numbers, in training. bound: at first they are uniform in ±bound.
    """

    def __init__(self, block: nn.Module, width: int, count: int, dropout: float = 0.0, bound: float = 0.1) -> None:
        super().__init__()
        self.block, self.dropout = block, nn.Dropout(dropout)
        self.prompts = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,D) → (B,N,D)."""
        batch = x.shape[0]  # len(x) would be a constant in an export
        prompts = self.dropout(self.prompts).to(x.dtype).expand(batch, -1, -1)
        out: Tensor = self.block(torch.cat((x, prompts), dim=1))
        return out[:, : x.shape[1]]


def add_prompts(backbone: nn.Module, rank: int, dropout: float) -> None:
    """``rank`` prompts for every block of a ViT, in place; at first uniform in ±√(6 / (3·p² + D)), p the patch's side
    (the paper's bound).

    Raises:
        ValueError: no block of a ViT.
    """
    found: list[tuple[str, Any]] = [(name, b) for name, b in backbone.named_modules() if isinstance(b, Block)]
    if not found:
        raise ValueError(
            "tuning='vpt' finds no block of a plain ViT, whose attention reads every token; "
            "use tuning='lora', 'adapter', 'none' or 'full'"
        )
    patch = next((math.prod(m.kernel_size) for m in backbone.modules() if isinstance(m, nn.Conv2d)), 0)
    for name, block in found:
        parent, _, own = name.rpartition(".")
        width = block.norm1.normalized_shape[0]
        bound = math.sqrt(6 / (3 * patch + width))
        setattr(backbone.get_submodule(parent), own, PromptedBlock(block, width, rank, dropout, bound))

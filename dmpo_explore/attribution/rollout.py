"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): attention multiplied over the blocks.

In: an `ExitView` over a ViT and an image. Out: (rows, columns) shares of the patches in what the exit reads.
R = Π_l (mean over heads of A_l + I) / 2, where I stands for the residual. It does not depend on values, MLPs, bypass,
predictor and class, so it is not an attribution. What a block takes from tokens of its own comes from no patch and
counts as nothing: rows of A_l then sum to less than 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.attention import attention_weights
from ..utils.typing import Array
from .exit_model import ExitView


def rollout(attentions: list[Tensor]) -> Tensor:
    """Rollout of maps (heads, N, N), first block first, rows summing to 1 → (N, N); row i: shares of its sources."""
    total = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for attention in attentions:
        total = (attention.mean(0) + torch.eye(len(total)).to(total)) / 2 @ total
    return total


def roll_out(view: ExitView, image: Tensor) -> Array:
    """Rollout from the class token under an exit to the patches: (rows, columns), summing to at most 1.

    From the class token where there is one, whatever the exit's predictor reads; else from the mean patch.

    Raises:
        ValueError: a backbone whose attention does not cover all tokens (windows, convolutions), or blocks of
            unequal numbers of tokens.
    """
    stage = view.model.stages[view.exit]
    if any(s.layout != "tokens" for s in view.model.stages):
        raise ValueError(
            "attention_rollout multiplies attention between all tokens, block by block; this backbone keeps maps "
            "(convolutions or attention inside windows), where there is none. Use 'integrated_gradients' or 'occlusion'"
        )
    maps = attention_maps(view, image)
    if not maps:
        raise ValueError("attention_rollout finds no attention (qkv, attn_drop) under this exit")
    if len({attention.shape[-1] for attention in maps}) > 1:
        raise ValueError(
            "attention_rollout multiplies attention between the same tokens in all blocks; in this model their number "
            "changes on the way. Use 'integrated_gradients' or 'occlusion'"
        )
    N = stage.prefix + stage.grid[0] * stage.grid[1]
    shares = rollout([attention[:, :N, :N] for attention in maps])
    read = shares[0] if stage.class_token else shares[stage.prefix :].mean(0)
    patches: Array = read[stage.prefix :].reshape(stage.grid).float().cpu().numpy()
    return patches


@torch.no_grad()
def attention_maps(view: ExitView, image: Tensor) -> list[Tensor]:
    """Attention of every block under the exit, (heads, N, N) each, as the model computes it (`attention_weights`)."""
    trunks = [stage.trunk for stage in view.model.stages[: view.exit + 1]]
    with attention_weights((view.model.embed, *trunks)) as seen:
        view(image)
    return [attention[0] for attention in seen]

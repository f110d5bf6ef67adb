"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): attention multiplied over the blocks.

In: an `ExitView` over a ViT and an image. Out: (rows, columns) shares of the patches in what the exit reads.
R = Π_l (mean over heads of A_l + I) / 2, where I stands for the residual. It does not depend on values, MLPs, bypass,
predictor and class, so it is not an attribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..utils.typing import Array
from .exit_model import ExitView


class _Attention(Protocol):
    """A timm attention."""

    fused_attn: bool
    attn_drop: nn.Module


def rollout(attentions: list[Tensor]) -> Tensor:
    """Rollout of maps (heads, N, N), first block first, rows summing to 1 → (N, N); row i: shares of its sources."""
    total = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for attention in attentions:
        total = (attention.mean(0) + torch.eye(len(total)).to(total)) / 2 @ total
    return total


def roll_out(view: ExitView, image: Tensor) -> Array:
    """Rollout from the tokens that the exit reads to the patches: (rows, columns), summing to at most 1.

    Read from the class token, or from the mean patch where there is none (registers are not read).

    Raises:
        ValueError: a backbone whose attention does not cover all tokens (windows, convolutions), or that merges tokens.
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
            "attention_rollout multiplies attention between the same tokens in all blocks; this model merges tokens on "
            "the way (merge). Use 'integrated_gradients' or 'occlusion'"
        )
    shares = rollout(maps)
    read = shares[0] if stage.class_token else shares[stage.prefix :].mean(0)
    patches: Array = read[stage.prefix :].reshape(stage.grid).float().cpu().numpy()
    return patches


@torch.no_grad()
def attention_maps(view: ExitView, image: Tensor) -> list[Tensor]:
    """Attention of every block under the exit, (heads, N, N) each, as the model computes it.

    Fused attention is switched off for the call (`fused_attn`, timm's public switch), so that the softmax passes
    through the attention's dropout, where it is read. LoRA inside qkv and adapters are included.
    """
    trunks = [stage.trunk for stage in view.model.stages[: view.exit + 1]]
    modules = [module for part in (view.model.embed, *trunks) for module in part.modules()]
    attentions = [cast(_Attention, module) for module in modules if _is_attention(module)]
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0][0])

    with _unfused(attentions):
        handles = [attention.attn_drop.register_forward_pre_hook(keep) for attention in attentions]
        try:
            view(image)
        finally:
            for handle in handles:
                handle.remove()
    return seen


def _is_attention(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("qkv", "attn_drop", "fused_attn"))


@contextmanager
def _unfused(attentions: list[_Attention]) -> Iterator[None]:
    before = [attention.fused_attn for attention in attentions]
    try:
        for attention in attentions:
            attention.fused_attn = False
        yield
    finally:
        for attention, fused in zip(attentions, before, strict=True):
            attention.fused_attn = fused

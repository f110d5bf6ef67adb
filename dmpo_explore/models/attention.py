"""Attention weights of a ViT's blocks, as the model computes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

from torch import Tensor, nn


class _Attention(Protocol):
    """A timm attention."""

    fused_attn: bool
    attn_drop: nn.Module


@contextmanager
def attention_weights(parts: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, the weights (B, heads, N, N) of every attention in ``parts``, appended to a list as they are computed.

    Fused attention is switched off inside (`fused_attn`, timm's public switch), so that the softmax passes through the
    attention's dropout, where it is read. LoRA inside qkv and adapters are included; tokens that a block adds for
    itself are the last of N.
    """
    modules = [module for part in parts for module in part.modules()]
    attentions = [cast(_Attention, module) for module in modules if is_attention(module)]
    before = [attention.fused_attn for attention in attentions]
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handles = []
    try:
        for attention in attentions:
            attention.fused_attn = False
            handles.append(attention.attn_drop.register_forward_pre_hook(keep))
        yield seen
    finally:
        for attention, fused in zip(attentions, before, strict=True):
            attention.fused_attn = fused
        for handle in handles:
            handle.remove()


def is_attention(module: nn.Module) -> bool:
    """Whether a module is a timm attention whose weights can be read."""
    return all(hasattr(module, name) for name in ("qkv", "attn_drop", "fused_attn"))

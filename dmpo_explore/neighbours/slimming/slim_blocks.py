"""Blocks of a ViT with fewer attention heads and MLP neurons: their width read, and plain blocks made that narrow.

In: a model or a list of trunks. Out: its blocks, their width, or the same blocks with new, narrower layers that a
slimmed run's weights fit. The width D of the tokens stays, so every exit keeps its shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timm.models.vision_transformer import Block
from torch import nn

from .options import Slimming


def vit_blocks(modules: Iterable[nn.Module]) -> list[Any]:
    """The ViT blocks of ``modules``, in order."""
    return [block for module in modules for block in module.modules() if type(block) is Block]


def width_of(blocks: Iterable[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number of heads, and of MLP neurons, of every block."""
    blocks = list(blocks)
    return tuple(b.attn.num_heads for b in blocks), tuple(b.mlp.fc1.out_features for b in blocks)


def narrow(trunks: Iterable[nn.Module], slimming: Slimming) -> None:
    """Give plain blocks new layers of the width that ``slimming`` kept, in place; their weights are random.

    Raises:
        ValueError: another number of blocks, or more heads or neurons than a block has.

    Example:
        >>> import dmpo_explore as dx
        >>> kept = Slimming("wide", heads=(1,) * 6, ffn=(96,) * 6)
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="full", slimming=kept)
        >>> dx.build_model(config, 3).stages[0].trunk[0].mlp.fc1
        Linear(in_features=64, out_features=96, bias=True)
    """
    blocks = vit_blocks(trunks)
    if len(blocks) != len(slimming.heads):
        raise ValueError(f"slimming is of {len(slimming.heads)} ViT blocks, this backbone has {len(blocks)} in use")
    wide = zip(blocks, *width_of(blocks), slimming.heads, slimming.ffn, strict=True)
    for k, (block, heads, neurons, kept_heads, kept_neurons) in enumerate(wide, start=1):
        if kept_heads > heads or kept_neurons > neurons:
            raise ValueError(
                f"slimming keeps {kept_heads} heads and {kept_neurons} neurons in block {k}, which has {heads} and "
                f"{neurons}"
            )
        attn, mlp = block.attn, block.mlp
        inner = kept_heads * attn.head_dim
        attn.qkv, attn.proj = _resized(attn.qkv, outputs=3 * inner), _resized(attn.proj, inputs=inner)
        mlp.fc1, mlp.fc2 = _resized(mlp.fc1, outputs=kept_neurons), _resized(mlp.fc2, inputs=kept_neurons)
        set_heads(attn, kept_heads)


def set_heads(attn: Any, heads: int) -> None:
    """Tell a timm attention how many heads its layers have now."""
    attn.num_heads, attn.attn_dim = heads, heads * attn.head_dim


def _resized(layer: nn.Linear, inputs: int = 0, outputs: int = 0) -> nn.Linear:
    like = layer.weight
    return nn.Linear(
        inputs or layer.in_features, outputs or layer.out_features, bias=layer.bias is not None, device=like.device,
        dtype=like.dtype,
    )  # fmt: skip

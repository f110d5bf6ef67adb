"""Parameter-efficient tuning: a frozen backbone gets a few trainable weights inside its blocks.

In place, before the blocks are regrouped into stages. The only file that knows peft. The release
tunes LoRA r=8 on the fused qkv of every block without alpha scaling; the parallel adapter is
AdaptFormer's (Chen et al. 2022, arXiv 2205.13535), which peft does not have, with its output
added beside the MLP's LayerScale (ours).
"""

from __future__ import annotations

from collections.abc import Callable

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn.functional import gelu

from .registry import lookup


class ParallelAdapter(nn.Module):
    """An MLP with an adapter beside it: x → LayerScale(MLP(x)) + Up(GELU(Down(x))); Up starts at zero."""

    def __init__(self, mlp: nn.Module, scale: nn.Module, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.mlp, self.scale = mlp, scale
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,D) → (B,N,D)."""
        out: Tensor = self.scale(self.mlp(x)) + self.up(self.dropout(gelu(self.down(x))))
        return out


def _lora(vit: nn.Module, targets: str, rank: int, dropout: float) -> None:
    settings = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=dropout, target_modules=rf"blocks\.\d+\.({targets})", bias="none"
    )
    inject_adapter_in_model(settings, vit)


def lora(vit: nn.Module, rank: int, dropout: float) -> None:
    """LoRA on the fused qkv (the release's)."""
    _lora(vit, r"attn\.qkv", rank, dropout)


def lora_all(vit: nn.Module, rank: int, dropout: float) -> None:
    """LoRA on qkv, the attention's projection and both MLP layers."""
    _lora(vit, r"attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2", rank, dropout)


def adapter(vit: nn.Module, rank: int, dropout: float) -> None:
    """A parallel adapter beside every MLP."""
    for block in vit.blocks:  # type: ignore[union-attr]
        block.mlp = ParallelAdapter(block.mlp, block.ls2, block.norm2.normalized_shape[0], rank, dropout)
        block.ls2 = nn.Identity()


def none(vit: nn.Module, rank: int, dropout: float) -> None:
    """Nothing: only what looks aside is trained."""


def full(vit: nn.Module, rank: int, dropout: float) -> None:
    """Every weight of the backbone."""
    vit.requires_grad_(True)


TUNINGS: dict[str, Callable[[nn.Module, int, float], None]] = {
    "lora": lora,
    "lora-all": lora_all,
    "adapter": adapter,
    "none": none,
    "full": full,
}


def tune(vit: nn.Module, kind: str, rank: int, dropout: float) -> None:
    """Make a frozen backbone tunable in place.

    Args:
        kind: a key of ``TUNINGS``.
        rank: inner width of LoRA or adapter.
        dropout: before LoRA's or behind the adapter's inner layer.

    Raises:
        ValueError: unknown kind.
    """
    lookup(TUNINGS, kind, "tuning")(vit, rank, dropout)

"""Families of timm models and how each is cut into embedding, blocks, tail and final norm.

A new family is one function that returns `Parts` and one line in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from timm.layers import LayerNorm2d, PatchEmbed, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from timm.models.vision_transformer import Block
from torch import Tensor, nn


@dataclass
class Parts:
    """A timm model taken apart: ``blocks`` of one or more modules, ``tail`` after the last of them, and the final
    ``norm`` over tokens, None where batch norms do its work. ``tokens`` is (D, grid) where the state is tokens."""

    embed: nn.Module
    blocks: list[list[nn.Module]]
    tail: list[nn.Module]
    norm: nn.Module | None
    layout: str
    tokens: tuple[int, tuple[int, int]] | None = None
    prefix: int = 0
    class_token: bool = False


class Embedding(nn.Module):
    """A ViT without its blocks: images (B,3,S,S) → position-coded tokens (B,N,D)."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        vit.blocks, vit.norm, vit.fc_norm, vit.attn_pool = nn.Sequential(), nn.Identity(), nn.Identity(), None
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, prefix first."""
        tokens: Tensor = self.vit.forward_features(images)
        return tokens


def _cut_vit(vit: Any) -> Parts:
    norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm
    norm = nn.LayerNorm(vit.embed_dim) if isinstance(norm, nn.Identity) else norm
    blocks = [[block] for block in vit.blocks]
    grid, has_class = vit.patch_embed.grid_size, vit.cls_token is not None
    return Parts(
        Embedding(vit), blocks, [], norm, "tokens", (vit.embed_dim, grid), vit.num_prefix_tokens, has_class
    )  # fmt: skip


def _cut_swin(model: Any) -> Parts:
    return Parts(model.patch_embed, _staged(model.layers), [], model.norm, "channels_last")


def _cut_convnext(model: Any) -> Parts:
    """Its final norm follows the pooling; as an exit norm it works on every token instead (ours)."""
    norm = model.head.norm if isinstance(model.norm_pre, nn.Identity) else model.norm_pre
    return Parts(model.stem, _staged(model.stages), [], _over_tokens(norm), "channels_first")


def _cut_efficientnet(model: Any) -> Parts:
    blocks = [[block] for stage in model.blocks for block in stage]
    embed = nn.Sequential(model.conv_stem, model.bn1)
    return Parts(embed, blocks, [model.conv_head, model.bn2], None, "channels_first")


def _cut_resnet(model: Any) -> Parts:
    blocks = [[b] for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for b in layer]
    embed = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
    return Parts(embed, blocks, [], None, "channels_first")


@dataclass(frozen=True)
class Family:
    """Rule for one of timm's model classes.

    Args:
        modules: timm's modules that hold such models, to suggest near names.
        cut: takes a model apart.
        lacks: the parts of a model that cannot be cut, in words; empty if it can be cut.
        options: more arguments of `timm.create_model`, where the image size is one.
    """

    modules: tuple[str, ...]
    cut: Callable[[Any], Parts]
    lacks: Callable[[Any], str]
    options: dict[str, Any] = field(default_factory=dict)


def _vit_lacks(vit: Any) -> str:
    plain = type(vit.patch_embed) is PatchEmbed and all(type(block) is Block for block in vit.blocks)
    return "" if plain else "a plain ViT has linear patches and standard blocks, this one has not"


def _efficientnet_lacks(model: Any) -> str:
    served = ("DepthwiseSeparableConv", "InvertedResidual", "EdgeResidual", "ConvBnAct")
    foreign = sorted({type(b).__name__ for stage in model.blocks for b in stage} - {*served})
    return f"there is no rule for blocks of kind {', '.join(foreign)}" if foreign else ""


def _nothing(model: Any) -> str:
    return ""


_VIT = Family(("vision_transformer", "deit"), _cut_vit, _vit_lacks, {"dynamic_img_size": False})
FAMILIES: dict[str, Family] = {  # by the name of timm's class
    "VisionTransformer": _VIT,
    "VisionTransformerDistilled": _VIT,
    "SwinTransformer": Family(("swin_transformer",), _cut_swin, _nothing),
    "ConvNeXt": Family(("convnext",), _cut_convnext, _nothing),
    "EfficientNet": Family(("efficientnet",), _cut_efficientnet, _efficientnet_lacks),
    "ResNet": Family(("resnet",), _cut_resnet, _nothing),
}


def _staged(stages: Any) -> list[list[nn.Module]]:
    """Blocks of all stages; a stage's downsampling goes with its first block."""
    blocks: list[list[nn.Module]] = []
    for stage in stages:
        first = [] if isinstance(stage.downsample, nn.Identity) else [stage.downsample]
        blocks += [[*first, block] if i == 0 else [block] for i, block in enumerate(stage.blocks)]
    return blocks


def _over_tokens(norm: Any) -> nn.Module | None:
    """A norm over the channels of maps as the same norm over the width of tokens; None for other kinds."""
    kinds: dict[type, Any] = {LayerNorm2d: nn.LayerNorm, RmsNorm2d: RmsNorm, SimpleNorm2d: SimpleNorm}
    if type(norm) not in kinds:
        return None
    same: nn.Module = kinds[type(norm)](norm.normalized_shape, eps=norm.eps)
    same.load_state_dict(norm.state_dict())
    return same

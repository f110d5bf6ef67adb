"""Tuned backbones whose numbers can be recomputed: timm's test models with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dmpo_explore.models.timm_backbones import create_backbone, split_backbone
from dmpo_explore.models.tuning import tune

RANK = 5
LAYER_SCALE, PLAIN = "test_vit2", "test_vit"
CONVOLUTIONAL = {
    "test_efficientnet": {"conv_pw", "conv_pwl"},
    "test_resnet": {"conv1", "conv2", "conv3"},
    "test_convnext": {"mlp.fc1", "mlp.fc2"},
}


def made(name: str = PLAIN, kind: str = "none", dropout: float = 0.0) -> Any:
    """A tuned ViT in eval mode; equal names give equal backbones, LayerScale is far from its start."""
    torch.manual_seed(0)
    vit: Any = create_backbone(name, 32)
    for block in vit.blocks:
        if hasattr(block.ls2, "gamma"):
            nn.init.normal_(block.ls1.gamma)
            nn.init.normal_(block.ls2.gamma)
    tune(vit, kind, RANK, dropout)
    return vit.eval()


def opened(vit: Any) -> Any:
    """Every trainable weight random: the tuning is no longer nothing."""
    for weight in vit.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.2)
    return vit


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features(vit: Any) -> Tensor:
    with torch.no_grad():
        tokens: Tensor = vit.forward_features(pictures())
    return tokens


def trainable(vit: nn.Module) -> set[str]:
    return {name for name, weight in vit.named_parameters() if weight.requires_grad}


def cut_and_tuned(name: str, kind: str) -> Any:
    torch.manual_seed(0)
    backbone = split_backbone(create_backbone(name, 64), 2, 64)
    parts = nn.ModuleList([backbone.embed, *backbone.trunks])
    for module in parts.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # ResNet's branches start at zero
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            nn.init.constant_(module.gamma, 0.5)  # type: ignore[arg-type]  # ConvNeXt's at 1e-6
    tune(parts, kind, RANK, 0.0)
    return parts


def through(parts: Any) -> Tensor:
    state = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for part in parts:
            state = part(state)
    return state

"""Orthogonal tuning: peft's OFT (Qiu et al. 2023, arXiv 2306.07280) on the layers that OrthSR tunes.

In place, on the backbone before it is cut. OrthSR: Li et al. 2024, arXiv 2407.08374.
"""

from __future__ import annotations

import warnings

from peft import OFTConfig
from timm.models.vision_transformer import Block
from torch import nn

from ...models.tuning import inject, matrices, only

OFT_LAYERS = r"mlp\.fc1|mlp\.fc2|conv_pw|conv_pwl|conv1|conv3"  # of these a ViT's linear layers, and 1x1 convolutions
OFT_BLOCK = 4  # times the rank: a block's size. A square layer then has about as many trained weights as with LoRA


def rotate(backbone: nn.Module, rank: int, dropout: float) -> None:
    """Orthogonal tuning of the MLPs, elsewhere of 1x1 convolutions: W → W·R, R block-diagonal and orthogonal.

    R = (I + Q)⁻¹ (I − Q) in every block (Cayley, exact), Q skew-symmetric and at first 0. A block has `OFT_BLOCK` times
    ``rank`` rows, or the nearest number that divides the layer's inputs (ours: both).

    Raises:
        ValueError: a dropout above 0, which peft's OFT does not apply, or no layer that peft rotates correctly.
    """
    if dropout:
        raise ValueError(f"tuning='oft' has no dropout, not dropout={dropout}; use dropout=0")
    in_vit = {id(module) for block in backbone.modules() if isinstance(block, Block) for module in block.modules()}
    modules = dict(backbone.named_modules())
    names = [name for name in matrices(backbone, OFT_LAYERS) if _rotates(modules[name], in_vit)]
    settings = OFTConfig(
        r=0, oft_block_size=OFT_BLOCK * rank, use_cayley_neumann=False, target_modules=only(names), bias="none"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Invalid `oft_block_size`")  # peft takes the nearest size that divides
        inject(backbone, "oft", names, "MLP of a plain ViT's block and no 1x1 convolution", settings)


def _rotates(layer: nn.Module, in_vit: set[int]) -> bool:
    """Whether peft's OFT computes a rotation here: its linear layers take maps (B,H,W,C) for convolutions', and it adds
    overlapping windows up."""
    return layer.kernel_size == (1, 1) if isinstance(layer, nn.Conv2d) else id(layer) in in_vit

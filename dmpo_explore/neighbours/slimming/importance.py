"""Importance of attention heads and MLP neurons: accumulated |gradient × weight| (COST-EFF, arXiv 2210.15523).

In: blocks and the losses of some batches. Out: one number per head and per neuron. |∂L/∂w · w| estimates to first
order how much the loss changes where a weight becomes zero. A head's weights are its columns of the attention's
projection; a neuron's are its row of fc1 and its column of fc2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Importance(NamedTuple):
    """Importance in every block: ``heads`` (H,) and ``ffn`` (F,) each, in the order of the layers.

    Example:
        >>> Importance([torch.tensor([2.0, 1.0])], [torch.tensor([3.0])]).heads[0].argmin().item()
        1
    """

    heads: list[Tensor]
    ffn: list[Tensor]


def measure_importance(blocks: Sequence[Any], losses: Iterable[Tensor]) -> Importance:
    """Sum over batches of |gradient × weight|, added up over the weights of each head and each neuron.

    Args:
        blocks: ViT blocks whose MLP has layers fc1 and fc2.
        losses: of one batch after another, each made by these blocks; computed as they are read.

    Raises:
        ValueError: no losses.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.slimming.slim_blocks import vit_blocks
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="full")
        >>> model = dx.build_model(config, 3)
        >>> found = measure_importance(vit_blocks([model]), [model(torch.ones(1, 3, 32, 32)).square().mean()])
        >>> len(found.heads), tuple(found.heads[0].shape), tuple(found.ffn[0].shape)
        (6, (2,), (192,))
    """
    layers = [(block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight) for block in blocks]
    weights = [weight for three in layers for weight in three]
    sums: list[Tensor] = []
    for loss in losses:
        pairs = zip(torch.autograd.grad(loss, weights), weights, strict=True)
        parts = [(gradient * weight.detach()).abs() for gradient, weight in pairs]
        sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
    if not sums:
        raise ValueError("importance needs at least one batch of images")
    heads, ffn = [], []
    for block, proj, fc1, fc2 in zip(blocks, sums[::3], sums[1::3], sums[2::3], strict=True):
        heads.append(proj.sum(0).view(block.attn.num_heads, -1).sum(1))
        ffn.append(fc1.sum(1) + fc2.sum(0))
    return Importance(heads, ffn)

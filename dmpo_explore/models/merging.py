"""Tuning merged into the weights, for inference: the same outputs with fewer products.

In: a trained model. Out: the same object, changed in place; it can no longer be trained. LoRA is added to the weight it
tunes (Hu et al. 2021), an orthogonal matrix is multiplied into it (Qiu et al. 2023). Ours: a parallel adapter becomes
rank more hidden units of the MLP beside it, since both pass the same GELU; a LayerScale is multiplied into the linear
layer before it, where that is proved to be all that it does. Other tuning, such as adapters around convolutions, stays
as it is.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from .tuning import ParallelAdapter, merge_peft


@torch.no_grad()
def merge(model: nn.Module) -> int:
    """Merge the tuning where possible, in place; no weight of ``model`` needs a gradient afterwards.

    Returns:
        Number of merged layers.

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="adapter"), 3).eval()
        >>> images = torch.zeros(1, 3, 32, 32)
        >>> before = model(images)
        >>> merge(model) > 0, torch.allclose(model(images), before, atol=1e-5)
        (True, True)
    """
    folded = merge_peft(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, ParallelAdapter) and _is_plain_mlp(module.mlp):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, fold_adapter(module))
            folded += 1
    for module in model.modules():
        folded += _fold_scales(module)
    model.requires_grad_(False)
    return folded


def fold_adapter(adapter: ParallelAdapter) -> nn.Sequential:
    """x → scale(MLP(x)) + Up(GELU(Down(x))) as one MLP of hidden + rank units; exact up to rounding."""
    mlp: Any = adapter.mlp
    gamma = _gamma(adapter.scale)
    outer, bias = _scaled(mlp.fc2.weight, gamma), _scaled(_bias(mlp.fc2), gamma)
    return nn.Sequential(
        _linear(torch.cat((mlp.fc1.weight, adapter.down.weight)), torch.cat((_bias(mlp.fc1), adapter.down.bias))),
        nn.GELU(),
        _linear(torch.cat((outer, adapter.up.weight), dim=1), bias + adapter.up.bias),
    )


def fold_scale(layer: nn.Linear, gamma: Tensor) -> nn.Linear:
    """x → gamma · layer(x) as one layer."""
    return _linear(_scaled(layer.weight, gamma), _scaled(_bias(layer), gamma))


def _fold_scales(block: Any) -> int:
    """The LayerScales of a ViT block: ls1 after attn.proj, ls2 after mlp.fc2."""
    folded = 0
    for part, layer, scale in (("attn", "proj", "ls1"), ("mlp", "fc2", "ls2")):
        owner, gamma = getattr(block, part, None), _gamma(getattr(block, scale, None))
        linear = isinstance(getattr(owner, layer, None), nn.Linear)
        known = type(block).__module__.startswith("timm.")  # whose scales are these; others prove it
        if gamma is not None and linear and (known or gamma.is_meta or _is_scale_of(block, part, layer, scale)):
            setattr(owner, layer, fold_scale(getattr(owner, layer), gamma))
            setattr(block, scale, nn.Identity())
            folded += 1
    return folded


def _is_scale_of(block: Any, part: str, layer: str, scale: str) -> bool:
    """Whether a block's ``scale`` multiplies what ``layer`` gives: a copy with another scale answers as if folded.

    In between, a block of one's own may have a norm, say. One that takes neither tokens nor a map is left as it is.
    """
    copy, generator = deepcopy(block).eval(), torch.Generator().manual_seed(0)  # torch's own stays as it is
    scaled, gamma = getattr(getattr(copy, part), layer), getattr(copy, scale).gamma
    gamma.copy_(1 + torch.rand(gamma.shape, generator=generator))
    for shape in ((2, 5, gamma.numel()), (2, 4, 4, gamma.numel())):
        x = torch.randn(shape, generator=generator).to(gamma)
        try:
            expected = copy(x)
        except Exception:  # whatever it needs that this is not
            continue
        for weight in scaled.parameters():  # a row, or an entry of the bias, for each channel
            weight.mul_(gamma.view(-1, *[1] * (weight.ndim - 1)))
        setattr(copy, scale, nn.Identity())
        return bool(torch.allclose(copy(x), expected, rtol=1e-3, atol=1e-3))
    return False


def _is_plain_mlp(mlp: Any) -> bool:
    act = getattr(mlp, "act", None)
    return (
        type(mlp) is Mlp  # its relatives gate or normalise in between
        and isinstance(act, nn.GELU)
        and act.approximate == "none"
        and isinstance(mlp.norm, nn.Identity)
        and isinstance(mlp.fc1, nn.Linear)
        and isinstance(mlp.fc2, nn.Linear)
    )


def _gamma(scale: Any) -> Tensor | None:
    gamma = getattr(scale, "gamma", None)
    return gamma if isinstance(gamma, Tensor) else None


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


def _scaled(values: Tensor, gamma: Tensor | None) -> Tensor:
    """Rows times gamma, multiplied in float64 so that only the last rounding is ours."""
    if gamma is None:
        return values
    scale = gamma.double() if values.ndim == 1 else gamma.double()[:, None]
    return (values.double() * scale).to(values.dtype)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer

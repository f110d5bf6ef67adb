"""Predictors in the form that inference runs fastest: the same logits up to rounding, with fewer operations.

In: a model whose tuning is merged. Out: the same object, changed in place; it can no longer be trained. An exit for one
image costs the fixed overhead of its operations, not its FLOPs, so fewer and smaller ones count. FLOPs are counted
without this (`flops`): the method's own products, an upper bound of what runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .predictors import CovariancePredictor
from .second_order import at_least_float32, full_precision, newton_schulz, root_of_covariance

PRECISIONS: dict[str, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast


class PreparedCovariance(CovariancePredictor):
    """`CovariancePredictor` with the Newton-Schulz root, its W2 spread over the whole matrix: no triangle is cut out.

    Args:
        trained: whose weights are taken over; ``normalisation="isqrt"``.

    Example:
        >>> trained = CovariancePredictor(8, 5, grid=(2, 2), prefix=1, channels=6, normalisation="isqrt")
        >>> x = torch.randn(2, 5, 8)
        >>> torch.allclose(PreparedCovariance(trained)(x), trained(x), atol=1e-5)
        True
    """

    def __init__(self, trained: CovariancePredictor) -> None:
        nn.Module.__init__(self)
        self.normalise, self.prefix = trained.normalise, trained.prefix
        self.first, self.reduce = trained.first, trained.reduce
        d, weight = trained.reduce.out_features, trained.second.weight
        self.second = nn.Linear(d * d, weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
        rows, columns = torch.triu_indices(d, d, device=weight.device)
        with torch.no_grad():
            self.second.weight.zero_()
            self.second.weight[:, rows * d + columns] = weight

    def statistics(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, d²): what W2 reads."""
        reduced = self.reduce(x[:, self.prefix :])  # (B, h*w, d)
        with full_precision(x):
            root = root_of_covariance(at_least_float32(reduced))
        return root.flatten(1).to(reduced.dtype)


def cast_products(model: nn.Module, kind: torch.dtype) -> int:
    """Cast the weights of linear layers and convolutions once, as autocast casts them at every call; in place.

    Everything else stays in float32. The model then runs under autocast to ``kind`` only. Returns how many layers.

    Example:
        >>> layers = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
        >>> cast_products(layers, torch.bfloat16), layers[0].weight.dtype, layers[1].weight.dtype
        (1, torch.bfloat16, torch.float32)
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    for layer in layers:
        layer.to(kind)
    return len(layers)


def prepare(model: nn.Module) -> int:
    """Prepare every predictor that has a faster form, in place; returns how many.

    Example:
        >>> import dmpo_explore as dx
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, normalisation="isqrt")
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> before = model(torch.zeros(1, 3, 32, 32))
        >>> prepare(model), torch.allclose(model(torch.zeros(1, 3, 32, 32)), before, atol=1e-5)
        (1, True)
    """
    found = [
        (name, part) for name, part in model.named_modules()
        if type(part) is CovariancePredictor and part.normalise is newton_schulz
    ]  # fmt: skip
    for name, part in found:
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, PreparedCovariance(part).requires_grad_(False))
    return len(found)

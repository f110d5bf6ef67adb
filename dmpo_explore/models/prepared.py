"""Predictors in the form that inference runs fastest: the same logits up to rounding, with fewer operations.

In: a model whose tuning is merged. Out: the same object, changed in place; it can no longer be trained. An exit for one
image costs the fixed overhead of its operations, not its FLOPs, so fewer and smaller ones count. FLOPs are counted
without this (`flops`), as the method's own products. That is more than what runs where there are fewer tokens than
channels, and elsewhere one d × d product less for each such exit.
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


def plain_products(model: nn.Module) -> list[nn.Module]:
    """The linear layers and convolutions whose weights autocast would cast as they are.

    One with a forward of its own may compute with its weights in float32 first, as standardised convolutions do.
    """

    def is_plain(part: nn.Module) -> bool:
        forward = type(part).forward
        conv = isinstance(part, nn.Conv2d) and forward is nn.Conv2d.forward
        return conv or (isinstance(part, nn.Linear) and forward is nn.Linear.forward)

    return [part for part in model.modules() if is_plain(part)]


def cast_products(model: nn.Module, kind: torch.dtype) -> int:
    """Cast the weights of `plain_products` once, as autocast casts them at every call; in place.

    Everything else stays in float32. The model then runs under autocast to ``kind`` only. Returns how many layers.
    """
    layers = plain_products(model)
    for layer in layers:
        layer.to(kind)
    return len(layers)


def prepare(model: nn.Module) -> int:
    """Prepare every predictor that has a faster form, in place; returns how many."""
    found = [
        (name, part) for name, part in model.named_modules()
        if type(part) is CovariancePredictor and part.normalise is newton_schulz
    ]  # fmt: skip
    for name, part in found:
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, PreparedCovariance(part).requires_grad_(False))
    return len(found)

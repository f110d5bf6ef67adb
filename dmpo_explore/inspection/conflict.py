"""Gradient conflict: cosine between the gradients of an early exit's loss and of the last exit's loss.

In: a `DMPO`, images (B,3,S,S), labels (B,). Out: one row per early exit. The state of the model is restored: no
``.grad`` changes, dropout is off and every module's mode is restored, so it can run within a training loop. Two
gradients conflict where their cosine is negative (Yu et al. 2020, arXiv 2001.06782). Ours: over the tuned weights that
an early exit shares with the last, since the rest of the backbone is frozen. Losses enter unweighted: neither their
weights λ nor gradient equilibrium count, and each exit's own answer is read, as in training.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from ..models.dmpo import DMPO, evaluating
from ..training.losses import exit_losses


def shared_parameters(model: DMPO, exit: int) -> list[nn.Parameter]:
    """Trainable weights that an early exit shares with the last: those of the embedding and of the trunks up to it.

    Args:
        exit: 0-based.
    """
    modules = [model.embed, *(stage.trunk for stage in model.stages[: exit + 1])]
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def gradient_conflict(
    model: DMPO, images: Tensor, labels: Tensor, *, coupling: str = "none", batch_size: int = 32
) -> pd.DataFrame:
    """Cosine between each early exit's gradient and the last exit's: gᵏ·gᴷ / (‖gᵏ‖ ‖gᴷ‖) over the shared weights.

    Args:
        images, labels: (B,3,S,S) preprocessed floats, (B,) int64.
        coupling: of the losses, a key of `training.losses.COUPLINGS`.
        batch_size: images at a time; the gradients are those of the mean loss over all B.

    Returns:
        K−1 rows: ``exit`` (from 1), ``cosine`` (nan where a gradient is zero), ``early_norm`` and ``last_norm``
        (Euclidean lengths), ``opposed`` (share of the batches whose own two gradients have a negative cosine).

    Raises:
        ValueError: a single exit, no tuned weight that is shared, or labels and images that do not fit.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> model = dx.build_model(config, n_classes=3)
        >>> table = dx.gradient_conflict(model, torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
        >>> list(table.columns), len(table)
        (['exit', 'cosine', 'early_norm', 'last_norm', 'opposed'], 1)
    """
    n_exits, n_images = model.n_exits, len(images)
    shared = [shared_parameters(model, k) for k in range(n_exits - 1)]
    if n_exits < 2 or not shared[0]:
        why = "it has a single exit" if n_exits < 2 else "its trunk up to exit 1 trains nothing (tuning='none'?)"
        raise ValueError(f"exits of this model share no tuned weights: {why}")
    if len(labels) != n_images or not n_images:
        raise ValueError(f"{n_images} images and {len(labels)} labels must be as many, and at least one")
    sums = [torch.zeros(2, sum(p.numel() for p in weights), device=model.device) for weights in shared]
    opposed = [0.0] * (n_exits - 1)
    with evaluating(model), torch.enable_grad():
        for start in range(0, n_images, batch_size):
            batch, targets = (x[start : start + batch_size].to(model.device) for x in (images, labels))
            share = len(batch) / n_images
            own = torch.stack([output.own_logits for output in model.walk(batch)], dim=1)  # what a training reads
            losses = exit_losses(own, targets, coupling)
            deep = _gradients(losses[-1], shared[-1])  # those of fewer trunks come first
            for k, weights in enumerate(shared):
                pair = torch.stack([_flat(_gradients(losses[k], weights)), _flat(deep[: len(weights)])])
                sums[k] += share * pair
                opposed[k] += share * float(pair[0] @ pair[1] < 0)
    rows = [
        _row(k, pair.double()) | {"opposed": part} for k, (pair, part) in enumerate(zip(sums, opposed, strict=True))
    ]
    return pd.DataFrame(rows)


def _gradients(loss: Tensor, weights: list[nn.Parameter]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([gradient.flatten().float() for gradient in gradients])


def _row(exit: int, pair: Tensor) -> dict[str, float]:
    norms = pair.norm(dim=1)
    cosine = float(pair[0] @ pair[1] / norms.prod())  # nan where one is zero
    return {"exit": exit + 1, "cosine": cosine, "early_norm": float(norms[0]), "last_norm": float(norms[1])}

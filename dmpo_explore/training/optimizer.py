"""The optimizer of a training: AdamW's parameter groups, and the learning rate by step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..config import TrainingConfig

# Parameters of more than one dimension without weight decay: those of timm's `no_weight_decay` in the served families.
NO_DECAY = ("cls_token", "dist_token", "pos_embed", "reg_token", "relative_position_bias_table")


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, in groups by learning rate and weight decay.

    Backbone and its tuning (``tuning_lr``) and the exits (``predictor_lr``) have learning rates of their own. Biases,
    norms, scales and the parameters named in `NO_DECAY` have no weight decay.

    Example:
        >>> import dmpo_explore as dx
        >>> model = torch.nn.Linear(3, 2)
        >>> [group["weight_decay"] for group in make_optimizer(model, dx.TrainingConfig(weight_decay=0.1)).param_groups]
        [0.1, 0.0]
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            tuned = name.startswith("embed.") or ".trunk." in name
            decays = weight.ndim > 1 and name.rpartition(".")[2] not in NO_DECAY
            groups.setdefault((tuned, decays), []).append(weight)
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": config.tuning_lr if tuned else config.predictor_lr,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (tuned, decays), weights in groups.items()
        ]
    )


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Learning rate over its peak at ``step`` of ``steps``: linear warm-up, then half a cosine to zero.

    Example:
        >>> [rate_factor(step, 12, 3) for step in (0, 1, 2, 3)]
        [0.25, 0.5, 0.75, 1.0]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))

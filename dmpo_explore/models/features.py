"""Features of the exits: what each predictor reads, pooled to one vector for an image.

In: a `DMPO`. Out: the logits (B, K, C) of `DMPO.forward` and the features (B, K, D) beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .dmpo import DMPO
from .predictors import read_mean
from .stage import StageOutput


def feature_width(model: DMPO) -> int:
    """D of `forward_features`: the width of the widest stage.

    Example:
        >>> import dmpo_explore as dx
        >>> feature_width(dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3))
        64
    """
    return max(stage.width for stage in model.stages)


def forward_features(model: DMPO, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K, C) of all exits and their features (B, K, D), of one walk.

    The features of an exit are the mean of its patch tokens after bypass and exit norm. Beyond the width of a narrower
    stage they are 0.

    Raises:
        ValueError: as `DMPO.walk`.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> logits, features = forward_features(model, torch.zeros(4, 3, 32, 32))
        >>> tuple(logits.shape), tuple(features.shape)
        ((4, 2, 3), (4, 2, 64))
    """
    width, logits, features = feature_width(model), [], []
    for output in model.walk(images):
        logits.append(output.logits)
        pooled = _pooled(output)
        features.append(pad(pooled, (0, width - pooled.shape[1])))
    return torch.stack(logits, dim=1), torch.stack(features, dim=1)


def _pooled(output: StageOutput) -> Tensor:
    """(B, D) of one exit, of the tokens that its predictor reads."""
    stage = output.stage
    return read_mean(stage.norm(stage.once(output.read, output.tokens)), stage.prefix)

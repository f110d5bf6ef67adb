"""Baselines: the input that stands for the absence of evidence, against which attributions are measured.

In: a `DMPO` and a preprocessed image (1,3,S,S). Out: preprocessed pixels of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.dmpo import DMPO
from ..utils.registry import lookup


def _black(model: DMPO, image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (model.preprocess.mean, model.preprocess.std))
    return (-mean / std).expand_as(image).clone()


def _mean(model: DMPO, image: Tensor) -> Tensor:
    return torch.zeros_like(image)


def _blur(model: DMPO, image: Tensor) -> Tensor:
    size = 2 * (image.shape[-1] // 8) + 1
    padded = F.pad(image, [size // 2] * 4, mode="reflect")
    return F.avg_pool2d(padded, size, stride=1)


BASELINES: dict[str, Callable[[DMPO, Tensor], Tensor]] = {"black": _black, "mean": _mean, "blur": _blur}


def make_baseline(model: DMPO, image: Tensor, baseline: str | Tensor) -> Tensor:
    """The baseline of an image: (1,3,S,S), or (M,3,S,S) where a stack of M is given.

    Args:
        model: of which the preprocessing is read. image: (1,3,S,S), preprocessed.
        baseline: ``black`` (no light), ``mean`` (the mean colour of pre-training: zeros), ``blur`` (the image's own box
            blur over a quarter of its side), or preprocessed pixels (3,S,S) or (M,3,S,S).

    Raises:
        ValueError: an unknown name, or pixels of another shape or not finite.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> dx.attribution.make_baseline(model, torch.rand(1, 3, 32, 32), "blur").shape
        torch.Size([1, 3, 32, 32])
    """
    if isinstance(baseline, str):
        return lookup(BASELINES, baseline, "baseline")(model, image)
    stack = baseline[None] if baseline.ndim == 3 else baseline
    if stack.ndim != 4 or stack.shape[1:] != image.shape[1:] or len(stack) < 1:
        raise ValueError(f"baseline of shape {tuple(baseline.shape)}; expected {tuple(image.shape[1:])} or a stack")
    if not stack.isfinite().all():
        raise ValueError("the baseline has pixels that are not finite")
    return stack.detach().clone().to(image)

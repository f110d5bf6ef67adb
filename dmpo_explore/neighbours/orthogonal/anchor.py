"""Anchors of self-regularisation: a linear head per exit on the untuned backbone, fitted before the training.

In: a model's config and training images. Out: a frozen `DMPO` whose exits answer from the backbone as it was
pre-trained. Self-regularisation draws a tuned model's answers towards those of the untuned one (OrthSR, Li et al. 2024,
arXiv 2407.08374). There they are CLIP's zero-shot answers. A backbone without texts has none: the fitted heads are
ours, and so is one anchor per exit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...config import Config
from ...inference.torch_engine import autocast, eval_mode
from ...models.dmpo import DMPO
from ...models.factory import PLAIN, build_model
from ...models.predictors import LinearPredictor
from ...models.stage import Stage
from ...utils.torch_tools import seeded

MOST = 5000  # training images that the heads are fitted on
PENALTY = 100.0  # of the squared weights of standardised features, as a sum over the images


def make_anchor(config: Config, n_classes: int) -> DMPO:
    """The anchor of a training, in eval mode: the plain backbone with linear exits where ``config`` has exits.

    Only its heads need gradients: `DMPO.trainable_state` is all that is fitted. Random numbers are drawn as in the
    training, so that a random backbone is the same one; torch's generator is left as it was.
    """
    plain = replace(config.model.unchanged().untuned(), **PLAIN, train_norm=False, equilibrium=False)
    with seeded(config.training.seed):
        return build_model(plain, n_classes).eval()


@torch.no_grad()
def fit_anchor(anchor: DMPO, loader: Iterable[Any], *, precision: str = "no") -> None:
    """Fit the heads of all exits, in place: logistic regressions on what they read.

    Args:
        loader: batches of (images, labels). precision: of autocast.
    """
    features: list[list[Tensor]] = [[] for _ in anchor.stages]
    labels = []
    with eval_mode(anchor), autocast(anchor.device, precision):
        for images, targets in loader:
            for output in anchor.walk(images.to(anchor.device)):
                features[output.k].append(_read(output.stage, output.read).float())
            labels.append(torch.as_tensor(targets))
    y = torch.cat(labels).to(anchor.device)
    for stage, found in zip(anchor.stages, features, strict=True):
        head = _predictor(stage).fc
        weight, bias = logistic_regression(torch.cat(found), y, head.out_features)
        head.weight.copy_(weight)
        head.bias.copy_(bias)


@torch.enable_grad()
def logistic_regression(
    x: Tensor, labels: Tensor, n_classes: int, penalty: float = PENALTY, steps: int = 100
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: features (n, p), labels (n,) → weights (C, p), bias (C,).

    They minimise Σ CE + penalty · ‖W‖² / 2 over standardised features, by L-BFGS from 0; the result is for features as
    they are given.
    """
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    z = (x - mean) / std
    weight = torch.zeros(n_classes, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(n_classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(z @ weight.T + bias, labels, reduction="sum")
        loss = (loss + penalty * weight.square().sum() / 2) / len(x)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]  # depends on torch
        return loss

    step: Any = optimizer.step  # untyped in torch
    step(objective)
    scaled = weight.detach() / std
    return scaled, bias.detach() - scaled @ mean


def _predictor(stage: Stage) -> LinearPredictor:
    return cast(LinearPredictor, stage.predictor)


def _read(stage: Stage, tokens: Tensor) -> Tensor:
    """(B, p): what the linear predictor of a stage reads."""
    predictor = _predictor(stage)
    read: Tensor = predictor.reader(stage.norm(tokens), predictor.prefix)
    return read

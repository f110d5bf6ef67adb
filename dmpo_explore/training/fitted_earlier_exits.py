"""Weights of earlier exits' answers (`EarlierExits`), fitted on held-out training images.

In: a model and training images that it is not trained on. Out: the model with the weights that have the least
cross-entropy there, exit by exit. Why held-out images: on those it is trained on, nearly every exit is correct, so
weights learned there do not show which exit errs. Val chooses the epoch, calibration fits thresholds and test is read
last: none of them is used. Ours: a tenth of the training images, and a small penalty on weights far from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from ..data.image_set import ImageSet
from ..data.torch_loaders import batches_of
from ..inference.torch_engine import autocast, eval_mode
from ..inference.torch_recording import NotFiniteError, recording_loader
from ..models.dmpo import DMPO
from ..utils.typing import Floats, Ints
from .loop import diverged
from .parts import TrainingContext, TrainingPart


class FittedEarlierExits(TrainingPart):
    """Fits the weights of earlier exits' answers after every epoch.

    Args:
        held_out: training images that the model is not trained on. precision: of autocast.
    """

    def __init__(self, model: DMPO, held_out: ImageSet, precision: str) -> None:
        self.model, self.precision = model, precision
        self.held_out = held_out

    def begin(self, context: TrainingContext) -> None:
        """Only the main process validates and saves, so only it fits."""
        self.fits = context.accelerator.is_main_process

    def after_epoch(self) -> None:
        """Raises FloatingPointError where the model's answers are not finite."""
        if not self.fits:
            return
        try:
            fit_earlier_exits(self.model, recording_loader(self.held_out, self.model), precision=self.precision)
        except NotFiniteError as error:
            raise diverged("held-out training images", error) from None


@torch.no_grad()
def fit_earlier_exits(model: DMPO, loader: Iterable[Any], *, precision: str = "no") -> None:
    """Fit the weights of all exits of ``model``, in place.

    Args:
        loader: batches of (images, labels) that the model is not trained on. precision: of autocast.
    """
    found, labels = [], []
    with eval_mode(model), autocast(model.device, precision):
        for images, targets in batches_of(loader):
            given = images.to(model.device, non_blocking=True)
            logits = [output.own_logits.float() for output in model.walk(given)]
            found.append(torch.stack(logits, dim=1).cpu())
            labels.append(torch.as_tensor(targets))
    for stage, weights in zip(model.stages, earlier_weights(torch.cat(found), torch.cat(labels)), strict=True):
        assert stage.earlier is not None
        stage.earlier.weights.copy_(weights)


def earlier_weights(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """Own logits (B, K, C), labels (B,) → the weights (k,) of every exit k = 1 … K, none below 0.

    They minimise the mean cross-entropy plus ‖w − w₀‖² / 2B; w₀ is 1 for the exit itself, else 0. The problem is
    convex. The penalty (ours) keeps the weights finite where all images are correct. On 250 images of Fashion-MNIST,
    weights that may be negative were less accurate.

    Raises:
        NotFiniteError: NaN or infinite logits.
    """
    if not torch.isfinite(logits).all():
        raise NotFiniteError("the model gave NaN or infinite logits")
    said, right = logits.double().log_softmax(dim=-1).numpy(), labels.numpy()
    return [torch.from_numpy(_fitted(said[:, : k + 1], right)).float() for k in range(logits.shape[1])]


def objective(weights: Floats, said: Floats, labels: Ints) -> tuple[float, Floats]:
    """What `earlier_weights` minimises, and its gradient (k,) by weights (k,); log-probabilities (B,k,C); labels."""
    B, k, _C = said.shape
    total = np.einsum("j,bjc->bc", weights, said)
    logs = log_softmax(total, axis=1)
    off = weights - np.eye(k)[-1]
    slope = np.einsum("bc,bjc->j", np.exp(logs), said) - said[np.arange(B), :, labels].sum(axis=0)
    return float((off @ off / 2 - logs[np.arange(B), labels].sum()) / B), (slope + off) / B


def _fitted(said: Floats, labels: Ints) -> Floats:
    k = said.shape[1]
    limits = [(0.0, None)] * k
    found = minimize(objective, np.eye(k)[-1], args=(said, labels), jac=True, method="L-BFGS-B", bounds=limits)
    return np.asarray(found.x, np.float64)

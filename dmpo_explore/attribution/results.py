"""Attribution results: heat maps of one exit, or of all exits of an image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..utils.progress import Progress
from .exit_model import undisturbed
from .methods import METHODS, Question
from .quality import Masked, Quality, assess


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where one exit looks for one class.

    Args:
        heat: (S,S) float32, one value a pixel, in ``unit``; positive speaks for the class.
        tokens: (rows, columns) float32 on the token grid: sums over the pixels of a cell (integrated gradients,
            `gradient_shap`, `input_x_gradient`), else their mean. The token methods make this map; ``heat`` shows it in
            pixels.
        prefix: (P,) what class and register tokens got (`layer_integrated_gradients`, `token_grad_cam`), else empty.
        target: the class. exit: 0-based. method: its name.
        logit: the target's logit at the exit. difference: the same minus the baseline's.
        delta: convergence delta, the sum of all values minus ``difference``, where the method defines one.
        steps: that were taken. layer: where tokens were read. unit: of the values.
        additive: whether values (and ``prefix``) add up to ``difference`` within ``delta``.
        is_attribution: False for `attention_rollout`, which knows neither class nor predictor.
    """

    heat: np.ndarray
    tokens: np.ndarray
    prefix: np.ndarray
    target: int
    exit: int
    method: str
    logit: float
    difference: float
    delta: float | None
    steps: int | None
    layer: str
    unit: str
    additive: bool
    is_attribution: bool
    question: Question = field(repr=False)

    def quality(
        self,
        *,
        samples: int = 64,
        perturbations: int = 4,
        radius: float = 0.02,
        orders: int = 8,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Quality:
        """Ask the model whether the map is right; see `Quality`.

        Args:
            samples: random masks for infidelity. perturbations: noisy copies for max-sensitivity, each of which makes
                the map anew, which costs most; 0 leaves it out (NaN). radius: of the noise, in preprocessed units.
            orders: random orders to compare with.
            progress: called with (parts done, 4).

        Raises:
            ValueError: a count below 1 (``perturbations``: below 0) or a radius that is not above 0.
        """
        if min(samples, perturbations + 1, orders) < 1 or not radius > 0:
            raise ValueError(
                f"{samples=} and {orders=} must be at least 1, {perturbations=} at least 0 and {radius=} above 0"
            )
        asked = self.question
        with undisturbed(asked.view.model):
            return assess(
                Masked(asked.view, asked.image, asked.baseline, self.tokens.shape),
                self.tokens,
                self.target,
                self._again,
                samples=samples,
                perturbations=perturbations,
                radius=radius,
                orders=orders,
                seed=seed,
                batch=min(asked.batch, samples),
                progress=progress,
            )

    def _again(self, image: Tensor) -> Tensor:
        with torch.enable_grad():
            asked = replace(self.question, image=image.detach())
            return torch.from_numpy(METHODS[self.method].ask(asked).heat)[None]


@dataclass(frozen=True, eq=False)
class ExitComparison:
    """The same image and class at several exits, on one scale.

    Args:
        attributions: one per exit, in order. target: the class. method: its name.
    """

    attributions: tuple[Attribution, ...]
    target: int
    method: str

    @property
    def exits(self) -> tuple[int, ...]:
        """0-based."""
        return tuple(a.exit for a in self.attributions)

    @property
    def heat(self) -> np.ndarray:
        """(K,S,S), in the method's unit."""
        return np.stack([a.heat for a in self.attributions])

    @property
    def scale(self) -> float:
        """Largest absolute value of all maps: the common end of a colour scale."""
        return float(np.abs(self.heat).max())

    @property
    def shares(self) -> np.ndarray:
        """(K,S,S): every map divided by the sum of its absolute values. Says where, no longer how much."""
        heat = self.heat.astype(np.float64)
        total = np.abs(heat).sum(axis=(1, 2), keepdims=True)
        shares: np.ndarray = np.divide(heat, total, out=np.zeros_like(heat), where=total > 0)
        return shares

    def differences(self, *, shares: bool = False) -> np.ndarray:
        """(K-1,S,S): each exit's map minus the one before it, of values or of `shares`.

        Logits have another scale at every exit, so compare places with ``shares``.
        """
        changes: np.ndarray = np.diff(self.shares if shares else self.heat, axis=0)
        return changes

    def similarity(self) -> np.ndarray:
        """(K,K) cosine between the maps; 1 on the diagonal, 0 for a map of zeros."""
        flat = self.heat.reshape(len(self.attributions), -1).astype(np.float64)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        unit = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
        product: np.ndarray = unit @ unit.T
        return product

"""Results: the heat map of one exit, and the heat maps of several exits for the same image and class."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..utils.typing import Array, Progress
from .exit_model import undisturbed
from .methods import METHODS
from .quality import Masked, Quality, assess
from .query import Query


@dataclass(frozen=True, eq=False)
class Attribution:
    """Heat map of one exit and one class.

    Args:
        heat: (S,S) float32, one value a pixel, in ``unit``; positive values support the class.
        tokens: (rows, columns) float32 on the token grid: sums over the pixels of a cell (integrated gradients,
            `gradient_shap`, `input_x_gradient`), else their mean. Token methods compute this map, and ``heat`` shows it
            in pixels.
        prefix: (P,) values of class and register tokens (`layer_integrated_gradients`, `token_grad_cam`), else empty.
        target: the class. exit: 0-based. method: its name.
        logit: the target's logit at the exit, for the target ``score`` its log-probability. difference: the same minus
            the baseline's.
        delta: convergence delta, the sum of all values minus ``difference``, where the method defines one.
        steps: number of steps or samples. layer: where tokens were read. unit: of the values.
        additive: whether values (and ``prefix``) add up to ``difference`` within ``delta``.
        is_attribution: False for `attention_rollout`, which depends on neither class nor predictor.
        query: the method's input, with the baseline.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute(model, torch.rand(3, 32, 32), exit=0, target=1)
        >>> isinstance(found, dx.Attribution), found.heat.shape
        (True, (32, 32))
        >>> bool(abs(found.heat.sum() - found.difference - found.delta) < 1e-4)  # complete
        True
    """

    heat: Array
    tokens: Array
    prefix: Array
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
    query: Query = field(repr=False)

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
        """Infidelity, max-sensitivity, insertion and deletion of the map; see `Quality`.

        What is hidden shows the baseline, the first of them where the method took a stack.

        Args:
            samples: random masks for infidelity. perturbations: noisy copies for max-sensitivity. Each of them computes
                the map again, which takes most of the time. orders: random orders to compare with. A count of 0 leaves
                out what it is for (NaN).
            radius: of the noise, in preprocessed units.
            progress: called with (parts done, 4).

        Raises:
            ValueError: a count below 0 or a radius that is not above 0.
        """
        if min(samples, perturbations, orders) < 0 or not radius > 0:
            raise ValueError(f"{samples=}, {perturbations=} and {orders=} must be at least 0, {radius=} above 0")
        query = self.query
        with undisturbed(query.view.model):
            return assess(
                Masked(query.view, query.image, query.baseline, self.tokens.shape),
                self.tokens,
                self.target,
                self._again,
                samples=samples,
                perturbations=perturbations,
                radius=radius,
                orders=orders,
                seed=seed,
                batch=query.batch,
                progress=progress,
            )

    def _again(self, image: Tensor) -> Tensor:
        with torch.enable_grad():
            query = replace(self.query, image=image.detach())
            return torch.from_numpy(METHODS[self.method].explain(query).heat)[None]


@dataclass(frozen=True, eq=False)
class ExitComparison:
    """Heat maps of the same image and class at K exits.

    Args:
        attributions: one per exit, in order. target: the class; None: each exit's own prediction. method: its name.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> compared = dx.compare_exits(model, torch.rand(3, 32, 32), target=1, method="saliency")
        >>> compared.exits, compared.heat.shape, compared.differences().shape
        ((0, 1), (2, 32, 32), (1, 32, 32))
    """

    attributions: tuple[Attribution, ...]
    target: int | None
    method: str

    @property
    def exits(self) -> tuple[int, ...]:
        """(K,) 0-based."""
        return tuple(a.exit for a in self.attributions)

    @property
    def heat(self) -> Array:
        """(K,S,S), in the method's unit."""
        return np.stack([a.heat for a in self.attributions])

    @property
    def scale(self) -> float:
        """Largest absolute value of all maps: the common end of a colour scale."""
        return float(np.abs(self.heat).max())

    @property
    def shares(self) -> Array:
        """(K,S,S): every map divided by the sum of its absolute values, so that only locations are compared."""
        heat = self.heat.astype(np.float64)
        total = np.abs(heat).sum(axis=(1, 2), keepdims=True)
        shares: Array = np.divide(heat, total, out=np.zeros_like(heat), where=total > 0)
        return shares

    def differences(self, *, shares: bool = False) -> Array:
        """(K-1,S,S): each exit's map minus that of the exit before, of values or of `shares`.

        Logits have another scale at every exit, so compare locations with ``shares``.
        """
        changes: Array = np.diff(self.shares if shares else self.heat, axis=0)
        return changes

    def similarity(self) -> Array:
        """(K,K) cosine similarity of the maps; 1 on the diagonal, 0 for a map of zeros."""
        flat = self.heat.reshape(len(self.attributions), -1).astype(np.float64)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        unit = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
        product: Array = unit @ unit.T
        return product

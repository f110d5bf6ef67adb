"""Input and output of an attribution method.

In: a `Query`: exit, image, baseline, class and settings. Out: a `HeatMap`: values in pixels and on the token grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..utils.typing import Array
from .cells import to_cells, to_pixels
from .exit_model import ExitView
from .layers import Layer

DELTA_BOUND = 0.05  # ours: |delta| above this share of |logit difference|, or of 1 logit if that is more, is too much
FEWEST_STEPS = 50  # 16 steps gave the wrong sign on a ViT
T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """The input of a method.

    Args:
        view: the exit. image: (1,3,S,S). baseline: (1,3,S,S), or a stack for `gradient_shap`. target: class.
        steps: of a path integral, or samples. batch: largest number of rows of a forward pass. layer: block number or
            None.
        seed: of `gradient_shap`.
        precomputed: function that returns the result of `gradients.integrate`, if computed together with other exits.
    """

    view: ExitView
    image: Tensor
    baseline: Tensor
    target: int
    steps: int = 64
    batch: int = 32
    layer: int | None = None
    seed: int = 0
    precomputed: Callable[[], tuple[Tensor, float]] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the exit's patch tokens."""
        return self.view.model.stages[self.view.exit].grid

    @property
    def side(self) -> int:
        """S, in pixels."""
        return int(self.image.shape[-1])

    def difference(self) -> float:
        """Logit of the image minus the (mean) logit of the baseline."""
        with torch.no_grad():
            there, nothing = (self.answers(pixels)[:, self.target] for pixels in (self.image, self.baseline))
        return float(there.mean() - nothing.mean())

    def answers(self, pixels: Tensor) -> Tensor:
        """(N,3,S,S) → (N,C) logits, at most ``batch`` rows at a time."""
        return torch.cat([self.view(pixels[i : i + self.batch]) for i in range(0, len(pixels), self.batch)])


@dataclass(frozen=True)
class HeatMap:
    """The output of a method; `results.Attribution` describes the fields."""

    heat: Array
    tokens: Array
    prefix: Array
    delta: float | None = None
    steps: int | None = None
    layer: str = ""


def pixel_map(
    query: Query, heat: Tensor, *, mean: bool = False, delta: float | None = None, steps: int | None = None
) -> HeatMap:
    """A method's values per pixel (1,S,S) → `HeatMap`; tokens are sums over their pixels, or means."""
    values = heat[0].detach().float().cpu().numpy()
    return HeatMap(values, to_cells(values, query.grid, mean=mean), np.zeros(0, np.float32), delta, steps)


def token_map(
    query: Query,
    layer: Layer,
    found: Tensor,
    *,
    spread: bool = False,
    delta: float | None = None,
    steps: int | None = None,
) -> HeatMap:
    """A method's values per token and channel at a layer, in the layout of its states → `HeatMap`."""
    stage = query.view.model.stages[layer.stage]
    values = stage.tokens(found)[0].sum(-1).float().cpu().numpy()  # channels collapsed: (N,)
    tokens = values[stage.prefix :].reshape(stage.grid)
    heat = to_pixels(tokens, query.side, spread=spread)
    return HeatMap(heat, tokens, values[: stage.prefix], delta, steps, layer.name)


def within_bound(delta: float, difference: float) -> bool:
    """Whether a convergence delta is at most `DELTA_BOUND` (5 %) of a logit difference, which is taken as at least 1.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.attribution.within_bound(0.2, difference=5.0), dx.attribution.within_bound(0.3, difference=5.0)
        (True, False)
    """
    return abs(delta) <= DELTA_BOUND * max(abs(difference), 1.0)


def refine(
    integral: Callable[[int], tuple[T, float]], steps: int, difference: float, doublings: int = 2
) -> tuple[T, float, int]:
    """A path integral with enough steps, which are doubled while the convergence delta is above the bound.

    Args:
        integral: number of steps → values and convergence delta. difference: of the logits.

    Returns:
        Values, delta and number of steps of the attempt with the smallest |delta|.
    """
    tried = []
    for n in (steps * 2**i for i in range(doublings + 1)):
        values, delta = integral(n)
        tried.append((abs(delta), n, values, delta))
        if within_bound(delta, difference):
            break
    _, n, values, delta = min(tried, key=lambda attempt: attempt[:2])
    return values, delta, n

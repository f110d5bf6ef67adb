"""Gradient methods in pixel space: integrated gradients, gradient SHAP, saliency, input × gradient.

In: a `Query`. Out: a `HeatMap`. Captum's methods are called as they are; `integrate_exits` is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from captum.attr import GradientShap, InputXGradient, IntegratedGradients, Saliency
from torch import Tensor

from ..models.dmpo import DMPO
from ..utils.torch_tools import seeded
from .exit_model import exit_logits, rising_exits
from .query import HeatMap, Query, pixel_map, refine


def integrate(query: Query) -> tuple[Tensor, float]:
    """Captum's integrated gradients with any number of steps: (1,3,S,S) and the convergence delta."""
    found, delta = IntegratedGradients(query.view).attribute(
        query.image,
        baselines=query.baseline[:1],
        target=query.target,
        n_steps=query.steps,
        internal_batch_size=query.batch,
        return_convergence_delta=True,
    )
    return found.detach(), float(delta)


def integrate_exits(
    model: DMPO,
    image: Tensor,
    baseline: Tensor,
    target: int,
    steps: int,
    batch: int,
    on_rows: Callable[[int], None] | None = None,
    exits: Sequence[int] | None = None,
) -> list[tuple[Tensor, float]]:
    """Integrated gradients of several exits by one forward pass a step, where Captum would run one for each exit.

    The rule is Captum's default: Gauss-Legendre on the straight line from the baseline to the image.

    Args:
        image, baseline: (1,3,S,S), preprocessed. target: class. steps: of the integral.
        batch: steps per forward pass. on_rows: called with the number of rows after each pass.
        exits: 0-based, rising; default: all. Stages after the last of them do not run.

    Returns:
        For each exit the attributions (1,3,S,S) and the convergence delta.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> maps = dx.attribution.integrate_exits(model, image, torch.zeros_like(image), target=0, steps=50, batch=25)
        >>> [(tuple(values.shape), abs(delta) < 0.1) for values, delta in maps]
        [((1, 3, 32, 32), True), ((1, 3, 32, 32), True)]
    """
    exits = rising_exits(model, exits)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places, share = (torch.from_numpy(v).to(image) for v in ((nodes + 1) / 2, weights / 2))
    total: list[Tensor] = [torch.zeros_like(image) for _ in exits]
    for place, part in zip(torch.split(places, batch), torch.split(share, batch), strict=True):
        pixels = _leaf(baseline + place.view(-1, 1, 1, 1) * (image - baseline))
        logits = exit_logits(model, pixels, exits)[..., target]  # (rows, E)
        if on_rows:
            on_rows(len(place))
        for k in range(len(total)):
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), pixels, retain_graph=True)
            total[k] += (gradient * part.view(-1, 1, 1, 1)).sum(0, keepdim=True) * (image - baseline)
    with torch.no_grad():
        there, nothing = exit_logits(model, torch.cat((image, baseline)), exits)[..., target]
    return [(total[k], float(total[k].sum() - (there[k] - nothing[k]))) for k in range(len(total))]


def integrated_gradients(query: Query) -> HeatMap:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365).

    Ours: steps are doubled, at most twice, while the convergence delta is above the bound.
    """

    def integral(steps: int) -> tuple[Tensor, float]:
        if steps == query.steps and query.precomputed:
            return query.precomputed()
        return integrate(replace(query, steps=steps))

    found, delta, steps = refine(integral, query.steps, query.difference())
    return pixel_map(query, found.sum(1), delta=delta, steps=steps)


def gradient_shap(query: Query) -> HeatMap:
    """Gradient SHAP (Erion et al. 2021, arXiv 1906.10670): gradients at random places between baselines and image."""
    total, left = torch.zeros_like(query.image), query.steps
    with _seeded(query.seed):
        while left > 0:
            n = min(query.batch, left)
            found = GradientShap(query.view).attribute(query.image, query.baseline, n_samples=n, target=query.target)
            total += found.detach() * n
            left -= n
    heat = (total / query.steps).sum(1)
    return pixel_map(query, heat, delta=float(heat.sum()) - query.difference(), steps=query.steps)


def saliency(query: Query) -> HeatMap:
    """Saliency (Simonyan et al. 2014, arXiv 1312.6034): |gradient|, the largest of the three channels."""
    found = Saliency(query.view).attribute(_leaf(query.image), target=query.target)
    return pixel_map(query, found.detach().amax(1), mean=True)


def input_x_gradient(query: Query) -> HeatMap:
    """Input × gradient (Shrikumar et al. 2016, arXiv 1605.01713), summed over channels."""
    found = InputXGradient(query.view).attribute(_leaf(query.image), target=query.target)
    return pixel_map(query, found.sum(1))


def _leaf(image: Tensor) -> Tensor:
    return image.clone().requires_grad_()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Captum draws from torch's and numpy's global generators; both are as before afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    with seeded(seed):
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002

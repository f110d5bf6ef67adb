"""Pathway attribution: the contributions of trunk and bypass to an exit's logit.

In: a `DMPO`, an image, a class. Out: `PathwayAttribution`: two contributions per exit, which add up to the logit
difference, with token maps of both. Ours, by integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) over the
predictor's two inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from ..models.dmpo import DMPO
from ..models.stage import Stage
from ..utils.typing import Array, Progress
from .exit_model import (
    DELTA_BOUND,
    check_steps,
    chosen_class,
    make_baseline,
    one_image,
    refine,
    rising_exits,
    undisturbed,
    within_bound,
)


@dataclass(frozen=True, eq=False)
class PathwayAttribution:
    """Contributions of trunk and bypass to a logit, for E exits.

    Args:
        exits: (E,) 0-based. target: the class.
        trunk, bypass: (E,) contributions in logits; ``trunk + bypass`` is ``difference + delta``.
        logit, difference: (E,) the target's logit of the exit's own predictor, before earlier exits' answers are added
            where exits read them, and the same minus the baseline image's.
        delta: (E,) convergence delta.
        trunk_tokens, bypass_tokens: E maps (rows, columns). trunk_prefix, bypass_prefix: E arrays (P,): the class
            token's and registers' part.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute_pathways(model, torch.rand(3, 32, 32), target=0)
        >>> [tokens.shape for tokens in found.trunk_tokens]
        [(2, 2), (2, 2)]
    """

    exits: tuple[int, ...]
    target: int
    trunk: Array
    bypass: Array
    logit: Array
    difference: Array
    delta: Array
    trunk_tokens: tuple[Array, ...]
    bypass_tokens: tuple[Array, ...]
    trunk_prefix: tuple[Array, ...]
    bypass_prefix: tuple[Array, ...]


def attribute_pathways(
    model: DMPO,
    image: Tensor,
    target: int | None = None,
    *,
    exits: Sequence[int] | None = None,
    baseline: str | Tensor = "black",
    steps: int = 128,
    batch: int = 64,
    progress: Progress | None = None,
) -> PathwayAttribution:
    """Contributions of trunk tokens and of the bypass to each exit's logit.

    Every bypass returns x + b(x). An exit's logit is therefore f(x, b) = scale · predictor(norm(x + b)) of two inputs:
    the trunk's tokens x and the bypass's addition b (`moment` also reads x itself). Both are taken for the image, (x,
    b), and for the baseline image, (x₀, b₀). Integrated gradients along the straight line between the two pairs give
    every token of either a share. The sums over x and over b add up to f(x, b) − f(x₀, b₀), the logit difference,
    within the convergence delta.

    The bypass computes b from x too (and, in a ladder, from earlier bypasses). So this attributes to pathways. It does
    not measure the bypass without the trunk. An exit without a bypass has 0 there.

    Args:
        image: (3,S,S) or (1,3,S,S), preprocessed. target: class; default: the prediction of the last of ``exits``.
        exits: 0-based, rising; default: all. baseline: as in `attribute`.
        steps: at least 50; only predictors run in them; doubled at most three times while the delta is above the bound.
        progress: called with (exits done, exits).

    Warns:
        UserWarning: a delta above the bound of `attribute`.

    Raises:
        ValueError: an unknown exit or class, exits that do not rise, too few steps, a stack of baselines, a
            wrong image.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute_pathways(model, torch.rand(3, 32, 32), target=0)
        >>> bool(abs(found.trunk + found.bypass - found.difference - found.delta).max() < 1e-4)
        True
    """
    chosen = rising_exits(model, exits)
    check_steps(steps)
    pixels = one_image(model, image)
    nothing = make_baseline(model, pixels, baseline)
    if len(nothing) > 1:
        raise ValueError(f"a stack of {len(nothing)} baselines; attribute_pathways takes one baseline")
    found = []
    with undisturbed(model):
        inputs = _inputs(model, torch.cat((pixels, nothing)), chosen)
        last = inputs[-1]
        target = last.answer if target is None else chosen_class(last.logits[0], target)
        for done, (exit, pair) in enumerate(zip(chosen, inputs, strict=True), start=1):
            found.append(_split(exit, pair, target, steps, batch))
            if progress:
                progress(done, len(chosen))
    return _collect(chosen, target, found)


@dataclass(frozen=True)
class _Inputs:
    """What an exit's predictor reads, for the image and for the baseline image."""

    stage: Stage
    x: Tensor  # (2,N,D)
    added: Tensor  # (2,N,D)
    logits: Tensor  # (2,C), the predictor's own
    answer: int  # class that the exit predicts for the image


@torch.no_grad()
def _inputs(model: DMPO, images: Tensor, exits: tuple[int, ...]) -> list[_Inputs]:
    """Trunk tokens, the bypass's addition and logits at these exits, by one walk that ends at the last of them."""
    found = []
    for output in model.walk(images):
        if output.k in exits:
            x = output.tokens
            answer = int(output.logits[0].argmax())
            found.append(_Inputs(output.stage, x, output.read - x, output.own_logits, answer))
        if output.k == exits[-1]:
            break
    return found


class _Predictor(nn.Module):
    """Logits as a function of trunk tokens and the bypass's addition: (B,N,D), (B,N,D) → (B,C)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """(B,N,D), (B,N,D) → (B,C)."""
        return self.stage.classify(x + added, x)


@dataclass(frozen=True)
class _Split:
    trunk: Array  # (N,)
    bypass: Array
    logit: float
    difference: float
    delta: float
    stage: Stage


def _split(exit: int, inputs: _Inputs, target: int, steps: int, batch: int) -> _Split:
    """Integrated gradients over the predictor's two inputs."""
    logit, nothing = (float(value) for value in inputs.logits[:, target])
    x, added = inputs.x, inputs.added
    function = IntegratedGradients(_Predictor(inputs.stage))

    def integral(n: int) -> tuple[tuple[Tensor, Tensor], float]:
        values, delta = function.attribute(
            (x[:1], added[:1]),
            baselines=(x[1:], added[1:]),
            target=target,
            n_steps=n,
            internal_batch_size=batch,
            return_convergence_delta=True,
        )
        return values, float(delta)

    values, delta, steps = refine(integral, steps, logit - nothing, doublings=3)
    if not within_bound(delta, logit - nothing):
        warnings.warn(
            f"attribute_pathways at exit {exit + 1}: convergence delta {delta:+.3g} of a logit difference "
            f"{logit - nothing:.3g} after {steps} steps, above the bound of {DELTA_BOUND:.0%}",
            UserWarning,
            stacklevel=3,
        )
    trunk, bypass = (value[0].sum(-1).detach().float().cpu().numpy() for value in values)
    return _Split(trunk, bypass, logit, logit - nothing, delta, inputs.stage)


def _collect(exits: tuple[int, ...], target: int, found: list[_Split]) -> PathwayAttribution:
    def maps(way: str) -> tuple[Array, ...]:
        return tuple(getattr(s, way)[s.stage.prefix :].reshape(s.stage.grid) for s in found)

    def prefixes(way: str) -> tuple[Array, ...]:
        return tuple(getattr(s, way)[: s.stage.prefix] for s in found)

    return PathwayAttribution(
        exits=exits,
        target=target,
        trunk=np.array([s.trunk.sum(dtype=np.float64) for s in found]),
        bypass=np.array([s.bypass.sum(dtype=np.float64) for s in found]),
        logit=np.array([s.logit for s in found]),
        difference=np.array([s.difference for s in found]),
        delta=np.array([s.delta for s in found]),
        trunk_tokens=maps("trunk"),
        bypass_tokens=maps("bypass"),
        trunk_prefix=prefixes("trunk"),
        bypass_prefix=prefixes("bypass"),
    )

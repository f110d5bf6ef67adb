"""What came through the trunk, what through the bypass: an exit's evidence by the way it took.

In: a `DMPO`, an image, a class. Out: `PathwayAttribution`: two contributions per exit, which add up to the difference,
with token maps of both. Ours, by integrated gradients (Sundararajan et al. 2017) over the predictor's two inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from ..models.dmpo import DMPO, Stage
from ..utils.progress import Progress
from .exit_model import ExitView, make_baseline, one_image, rising_exits, undisturbed
from .methods import DELTA_BOUND, FEWEST_STEPS, within_bound


@dataclass(frozen=True, eq=False)
class PathwayAttribution:
    """Contributions in logits, for E exits.

    Args:
        exits: (E,) 0-based. target: the class.
        trunk, bypass: (E,) what came each way; ``trunk + bypass`` is ``difference + delta``.
        logit, difference: (E,) the target's logit, and the same minus the baseline image's.
        delta: (E,) convergence delta.
        trunk_tokens, bypass_tokens: E maps (rows, columns). trunk_prefix, bypass_prefix: E arrays (P,): the class
            token's and registers' part.
    """

    exits: tuple[int, ...]
    target: int
    trunk: np.ndarray
    bypass: np.ndarray
    logit: np.ndarray
    difference: np.ndarray
    delta: np.ndarray
    trunk_tokens: tuple[np.ndarray, ...]
    bypass_tokens: tuple[np.ndarray, ...]
    trunk_prefix: tuple[np.ndarray, ...]
    bypass_prefix: tuple[np.ndarray, ...]


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
    """How much of each exit's evidence came through trunk tokens and how much through the bypass.

    Every bypass answers x + b(x). An exit's logit is therefore f(x, b) = scale · predictor(norm(x + b)) of two inputs:
    the trunk's tokens x and what the bypass added, b. Both are taken for the image, (x, b), and for the baseline image,
    (x₀, b₀); integrated gradients along the straight line between the two pairs give every token of either a share, and
    the sums over x and over b add up to f(x, b) − f(x₀, b₀), the logit difference of the two images, within the
    convergence delta. What b was computed from is x as well (and, in a ladder, earlier bypasses): this says which *way*
    evidence took, not what the bypass could do without the trunk. An exit without a bypass has 0 there.

    Args:
        image: (3,S,S) or (1,3,S,S), preprocessed. target: class; default: what the last of ``exits`` predicts.
        exits: 0-based, rising; default: all. baseline: as in `attribute`. steps: at least 50; only predictors run in
            them; doubled at most three times while the delta is above the bound.
        progress: called with (exits done, exits).

    Warns:
        UserWarning: a delta above the bound of `attribute`.

    Raises:
        ValueError: an unknown exit or class, exits that do not rise, too few steps, a stack of baselines, a wrong
            image.
    """
    chosen = rising_exits(model, exits)
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps={steps}: at least {FEWEST_STEPS}, for fewer have given maps of the wrong sign")
    pixels = one_image(model, image)
    nothing = make_baseline(model, pixels, baseline)
    if len(nothing) > 1:
        raise ValueError(f"a stack of {len(nothing)} baselines; attribute_pathways takes one")
    found = []
    with undisturbed(model):
        target = _target(ExitView(model, chosen[-1]), pixels, target)
        for done, exit in enumerate(chosen, start=1):
            view = ExitView(model, exit)
            found.append(_split(view, pixels, nothing, target, steps, batch))
            if progress:
                progress(done, len(chosen))
    return _collect(chosen, target, found)


def _target(view: ExitView, image: Tensor, target: int | None) -> int:
    with torch.no_grad():
        said = view(image)[0]
    if target is not None and not 0 <= target < len(said):
        raise ValueError(f"target={target}: this model has classes 0 to {len(said) - 1}")
    return int(said.argmax()) if target is None else int(target)


@dataclass(frozen=True)
class _Split:
    trunk: np.ndarray  # (N,)
    bypass: np.ndarray
    logit: float
    difference: float
    delta: float
    stage: Stage


def _split(view: ExitView, image: Tensor, baseline: Tensor, target: int, steps: int, batch: int) -> _Split:
    stage = view.model.stages[view.exit]
    with torch.no_grad(), _ways(stage) as seen:
        said = view(torch.cat((image, baseline)))[:, target]
    logit, nothing = (float(value) for value in said)
    x, added = seen["read"], seen["added"]
    function = _Predictor(stage, seen["state"][:1], None if "side" not in seen else seen["side"][:1])
    tried: list[tuple[float, int, Any, float]] = []
    for factor in (1, 2, 4, 8):
        values, delta = IntegratedGradients(function).attribute(
            (x[:1], added[:1]),
            baselines=(x[1:], added[1:]),
            target=target,
            n_steps=steps * factor,
            internal_batch_size=batch,
            return_convergence_delta=True,
        )
        tried.append((abs(float(delta)), factor, values, float(delta)))
        if within_bound(float(delta), logit - nothing):
            break
    _, factor, values, delta = min(tried, key=lambda entry: entry[:2])
    if not within_bound(delta, logit - nothing):
        warnings.warn(
            f"attribute_pathways at exit {view.exit + 1}: convergence delta {delta:+.3g} of a logit difference "
            f"{logit - nothing:.3g} after {steps * factor} steps, above the bound of {DELTA_BOUND:.0%}",
            UserWarning,
            stacklevel=3,
        )
    trunk, bypass = (value[0].sum(-1).detach().float().cpu().numpy() for value in values)
    return _Split(trunk, bypass, logit, logit - nothing, delta, stage)


class _Predictor(nn.Module):
    """(x, b), tokens (B,N,D) each → logits (B,C): `Stage.predict` with the bypass's answer replaced by x + b.

    ``state`` and ``side`` (1,…) only give the bypass something of the right shape to read.
    """

    def __init__(self, stage: Stage, state: Tensor, side: Tensor | None) -> None:
        super().__init__()
        self.stage, self.state, self.side = stage, state, side

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """(B,N,D), (B,N,D) → (B,C)."""
        state, side = (None if s is None else s.expand(len(x), *s.shape[1:]) for s in (self.state, self.side))
        assert state is not None

        def replace(module: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
            return x + added, output[1]

        with _hooked(self.stage.bypass, replace):
            logits, _ = self.stage.predict(state, side)
        return logits


@contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _ways(stage: Stage) -> Iterator[dict[str, Tensor]]:
    """The trunk's ``state``, what the bypass ``read``, what it ``added``, and the ``side`` it was handed, if any."""
    seen: dict[str, Tensor] = {}

    def trunk(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen["state"] = output

    def bypass(module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Any]) -> None:
        seen["read"], seen["added"] = inputs[0], output[0] - inputs[0]
        if len(inputs) > 1 and inputs[1] is not None:
            seen["side"] = inputs[1]

    with _hooked(stage.trunk, trunk), _hooked(stage.bypass, bypass):
        yield seen


def _collect(exits: tuple[int, ...], target: int, found: list[_Split]) -> PathwayAttribution:
    def maps(way: str) -> tuple[np.ndarray, ...]:
        return tuple(getattr(s, way)[s.stage.prefix :].reshape(s.stage.grid) for s in found)

    def prefixes(way: str) -> tuple[np.ndarray, ...]:
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

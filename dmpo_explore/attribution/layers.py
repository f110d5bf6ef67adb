"""Layers of a model under an exit: which can be read, their activations and gradients.

In: a `DMPO` and an exit, or an `ExitView` and an image. Out: `Layer`s, and activation and gradient of a logit at each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.dmpo import DMPO
from .exit_model import ExitView


@dataclass(frozen=True)
class Layer:
    """A module whose output holds tokens.

    Args:
        block: its number, counted from 1; 0 is the embedding. stage: 0-based stage that it belongs to.
    """

    block: int
    module: nn.Module
    stage: int

    @property
    def name(self) -> str:
        """In words."""
        return f"after block {self.block}" if self.block else "the embedding"


def layers(model: DMPO, exit: int) -> list[Layer]:
    """The layers under a 0-based exit whose tokens can be read, deepest first.

    These are every block and the embedding where states are tokens, and the end of each stage where they are maps.
    """
    found, start = [], 0
    first = model.stages[0]
    if first.layout == "tokens":
        found.append(Layer(0, model.embed, 0))
    for k, (stage, end) in enumerate(zip(model.stages[: exit + 1], model.exits, strict=False)):
        blocks = list(stage.trunk) if isinstance(stage.trunk, nn.Sequential) and stage.layout == "tokens" else []
        if len(blocks) == end - start:
            found += [Layer(start + i, block, k) for i, block in enumerate(blocks, start=1)]
        else:
            found.append(Layer(end, stage.trunk, k))
        start = end
    return found[::-1]


def readable_layer(view: ExitView, image: Tensor, target: int, block: int | None = None) -> Layer:
    """The layer after a block, by default the deepest under the exit on whose patch tokens the logit depends.

    Args:
        image: (1,3,S,S). target: class of the logit. block: its number, counted from 1; 0 is the embedding.

    Raises:
        ValueError: no such layer, one after the exit, or one whose patch tokens have a gradient of exactly 0.
    """
    found, end = layers(view.model, view.exit), view.model.exits[view.exit]
    if block is not None:
        if block > end:
            raise ValueError(
                f"layer={block} is after exit {view.exit + 1} (after block {end}), which does not read it: every "
                f"attribution there is 0. Use a layer up to {end}"
            )
        found = [place for place in found if place.block == block]
        if not found:
            blocks = sorted(place.block for place in layers(view.model, view.exit))
            raise ValueError(f"layer={block} cannot be read; this exit has {blocks} (block numbers, 0: embedding)")
    for place, (_, gradient) in zip(found, activations(view, image, target, found), strict=True):
        stage = view.model.stages[place.stage]
        if stage.tokens(gradient)[:, stage.prefix :].abs().max() > 0:
            return place
    raise ValueError(
        f"exit {view.exit + 1} reads no patch token {found[0].name}: the gradient there is exactly 0 and so would be "
        "the map (as under a predictor that reads only the class token); use layer=None or an earlier block"
    )


def activations(view: ExitView, image: Tensor, target: int, places: list[Layer]) -> list[tuple[Tensor, Tensor]]:
    """Activation of each layer and gradient of the target's logit with respect to it, by one forward pass."""
    seen: dict[int, Tensor] = {}

    def keep(i: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda module, inputs, output: seen.__setitem__(i, output)

    handles = [place.module.register_forward_hook(keep(i)) for i, place in enumerate(places)]
    try:
        logit = view(image.clone().requires_grad_())[0, target]
    finally:
        for handle in handles:
            handle.remove()
    states = [seen[i] for i in range(len(places))]
    found = torch.autograd.grad(logit, states, allow_unused=True)
    return [(s.detach(), torch.zeros_like(s) if g is None else g) for s, g in zip(states, found, strict=True)]

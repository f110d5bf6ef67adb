"""The one model path: images → embed → stage 1..K, each trunk → bypass → exit norm → predictor → scale.

`DMPO` receives finished parts and wires them. `stage.trunk` moves on, `stage.predict` looks aside: the
trunk never reads back what the bypass did (abstract of arXiv 2511.03245), so it can stay representative.
Between trunks travels a *state* in the backbone's own layout (tokens, or a feature map); only what looks aside reads it
as tokens. In every layout the images are dimension 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import Preprocess
from ..utils.registry import lookup
from .backbone import LAYOUTS


def branch(state: Tensor, exits_left: int) -> tuple[Tensor, Tensor]:
    """Gradient equilibrium (Li et al. 2019, arXiv 1908.06294): ``state`` twice, for the exit here and for the way on.

    Backwards the exit's gradient counts 1/n and that of the n-1 deeper ones together (n-1)/n, n = ``exits_left``.
    """
    share, still = 1 / exits_left, state.detach()
    return torch.lerp(still, state, share), torch.lerp(still, state, 1 - share)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Stage(nn.Module):
    """A piece of trunk and the exit behind it.

    Args:
        trunk: state → state: tokens (B,N,D), or a map.
        bypass: (tokens, side) → (tokens, side); what it makes is read by the predictor only.
        norm: the exit norm, per token.
        predictor: tokens (B,N,D) → logits (B,C).
        width, grid, prefix: D, (rows, columns) of the patch tokens, number of prefix tokens.
        class_token: whether the first of these is a class token.
        layout: of the state: ``tokens``, ``channels_first`` (B,C,H,W) or ``channels_last`` (B,H,W,C).
    """

    def __init__(
        self,
        trunk: nn.Module,
        bypass: nn.Module,
        norm: nn.Module,
        predictor: nn.Module,
        *,
        width: int,
        grid: tuple[int, int],
        prefix: int,
        class_token: bool = False,
        layout: str = "tokens",
    ) -> None:
        super().__init__()
        self.trunk, self.bypass, self.norm, self.predictor = trunk, bypass, norm, predictor
        self.scale = nn.Parameter(torch.ones(()))  # logit scale, one per exit (release)
        self.width, self.grid, self.prefix, self.layout = width, grid, prefix, layout
        self.class_token = class_token
        self._to_tokens = lookup(LAYOUTS, layout, "layout")

    def tokens(self, state: Tensor) -> Tensor:
        """What this stage's trunk hands on, as tokens (B,N,D); the patches of a map row by row."""
        return self._to_tokens(state)

    def predict(self, state: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Look aside.

        Args:
            state: what this stage's trunk handed on.
            side: what the previous stage's bypass handed on, else None.

        Returns:
            logits (B,C) and what this bypass hands on.
        """
        read, side = self.bypass(self.tokens(state), side)
        logits: Tensor = self.predictor(self.norm(read)) * self.scale
        return logits, side


class DMPO(nn.Module):
    """A backbone with K exits.

    Args:
        embed: images (B,3,S,S) → the first state.
        stages: K of them, in order.
        exits: block number behind which each exit sits.
        preprocess: the input it expects.
        equilibrium: rescale gradients at every exit (`branch`) while training.
    """

    stages: Sequence[Stage]

    def __init__(
        self,
        embed: nn.Module,
        stages: Sequence[Stage],
        exits: Sequence[int],
        preprocess: Preprocess,
        *,
        equilibrium: bool = False,
    ) -> None:
        super().__init__()
        self.equilibrium = equilibrium
        self.embed = embed
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        self.exits, self.preprocess = tuple(exits), preprocess

    def forward(self, images: Tensor) -> Tensor:
        """All exits: images (B,3,S,S) → logits (B,K,C)."""
        state, side, logits = self.embed(images), None, []
        for k, stage in enumerate(self.stages):
            here = state = stage.trunk(state)
            if self.equilibrium and self.training:
                here, state = branch(state, len(self.stages) - k)
            z, side = stage.predict(here, side)
            logits.append(z)
        return torch.stack(logits, dim=1)  # (B, K, C)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the backbone's batch norms stay in eval mode: their statistics are those that it
        was pre-trained with, and no run keeps others."""
        super().train(mode)
        for part in (self.embed, *(stage.trunk for stage in self.stages)):
            for module in part.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def trainable_state(self) -> dict[str, Tensor]:
        """The weights that train, by name: all that a run has to keep."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Put `trainable_state` back.

        Raises:
            ValueError: a name or shape that is not this model's; nothing is loaded then.
        """
        own = self.trainable_state()
        missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        bent = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
        if missing or foreign or bent:
            raise ValueError(
                f"these weights are not this model's: {len(missing)} missing (e.g. {missing[:2]}), "
                f"{len(foreign)} foreign (e.g. {foreign[:2]}), {len(bent)} of another shape (e.g. {bent[:2]})"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

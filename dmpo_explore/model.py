"""The one model path: images → embed → stage 1..K, each trunk → bypass → exit norm → predictor → scale.

`DMPO` receives finished parts and wires them. `stage.trunk` moves on, `stage.predict` looks aside: the
trunk never reads back what the bypass did (abstract of arXiv 2511.03245), so it can stay representative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .config import Preprocess


class Stage(nn.Module):
    """A piece of trunk and the exit behind it.

    Args:
        trunk: tokens (B,N,D) → tokens.
        bypass: (tokens, side) → (tokens, side); what it makes is read by the predictor only.
        norm: the exit norm, per token.
        predictor: tokens (B,N,D) → logits (B,C).
        width, grid, prefix: D, (rows, columns) of the patch tokens, number of prefix tokens.
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
    ) -> None:
        super().__init__()
        self.trunk, self.bypass, self.norm, self.predictor = trunk, bypass, norm, predictor
        self.scale = nn.Parameter(torch.ones(()))  # logit scale, one per exit (release)
        self.width, self.grid, self.prefix = width, grid, prefix

    def predict(self, tokens: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Look aside.

        Args:
            tokens: (B,N,D) from this stage's trunk.
            side: what the previous stage's bypass handed on, else None.

        Returns:
            logits (B,C) and what this bypass hands on.
        """
        read, side = self.bypass(tokens, side)
        logits: Tensor = self.predictor(self.norm(read)) * self.scale
        return logits, side


class DMPO(nn.Module):
    """A backbone with K exits.

    Args:
        embed: images (B,3,S,S) → tokens (B,N,D).
        stages: K of them, in order.
        exits: block number behind which each exit sits.
        preprocess: the input it expects.
    """

    stages: Sequence[Stage]

    def __init__(self, embed: nn.Module, stages: Sequence[Stage], exits: Sequence[int], preprocess: Preprocess) -> None:
        super().__init__()
        self.embed = embed
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        self.exits, self.preprocess = tuple(exits), preprocess

    def forward(self, images: Tensor) -> Tensor:
        """All exits: images (B,3,S,S) → logits (B,K,C)."""
        tokens, side, logits = self.embed(images), None, []
        for stage in self.stages:
            tokens = stage.trunk(tokens)
            z, side = stage.predict(tokens, side)
            logits.append(z)
        return torch.stack(logits, dim=1)  # (B, K, C)

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

"""The parts that the lessons build, as the library has them.

In: sizes. Out: modules with the arguments and weights of those that a student writes (`PARTS`). A narrow trunk beside a
frozen one is the idea of Ladder Side-Tuning (arXiv 2206.06522); its shape is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

import dmpo_explore as dx

from .camera import GRID, WIDTH

NARROW = 32  # numbers of a token's state in the narrow trunk
READ = WIDTH + NARROW  # numbers of a token that an exit reads
Modules = Iterable[nn.Module]


class SideStage(nn.Module):
    """One stage of the narrow trunk: new state = MLP(Down(tokens) + state); the exit reads tokens and state."""

    def __init__(self, width: int = WIDTH, narrow: int = NARROW) -> None:
        super().__init__()
        self.down = nn.Linear(width, narrow)
        self.mlp = nn.Sequential(
            nn.LayerNorm(narrow), nn.Linear(narrow, 2 * narrow), nn.GELU(), nn.Linear(2 * narrow, narrow)
        )

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, width), (B, N, narrow) or None at the first stage → (B, N, narrow), (B, N, width + narrow)."""
        state = self.mlp(self.down(tokens) + (0 if state is None else state))
        return state, torch.cat((tokens, state), dim=-1)


class PatchBypass(dx.models.ConvBypass):
    """`dx.models.ConvBypass` with tokens alone as its result."""

    def __init__(self, width: int = READ, hidden: int = 32, grid: tuple[int, int] = GRID) -> None:
        super().__init__(width, hidden, grid, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) → (B, N, D)."""
        return super().forward(x)[0]


class MeanPredictor(nn.Module):
    """One linear layer on the mean of the patch tokens; with ``hidden`` two, GELU between them: a control."""

    def __init__(self, width: int = READ, n_classes: int = 81, hidden: int = 0) -> None:
        super().__init__()
        before = [nn.Linear(width, hidden), nn.GELU()] if hidden else []
        self.first = nn.Sequential(*before, nn.Linear(hidden or width, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        return self.first(x[:, 1:].mean(dim=1))  # type: ignore[no-any-return]


class SecondOrderPredictor(nn.Module):
    """Mean plus root of the covariance, as `dx.models.CovariancePredictor` with ``isqrt``."""

    def __init__(self, width: int = READ, channels: int = 24, n_classes: int = 81) -> None:
        super().__init__()
        self.first = nn.Linear(width, n_classes)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        root = dx.models.newton_schulz(dx.models.covariance(self.reduce(x[:, 1:])))
        return self.first(x[:, 1:].mean(dim=1)) + self.second(dx.models.upper_triangle(root))  # type: ignore[no-any-return]


PARTS: dict[str, Any] = {"Stage": SideStage, "Bypass": PatchBypass, "Predictor": SecondOrderPredictor}  # as students'


class EarlyExitNet(nn.Module):
    """Stages, and behind each bypass, exit norm and predictor; naive exits if no bypasses and predictors are given."""

    def __init__(self, stages: Modules, bypasses: Modules = (), predictors: Modules = (), width: int = READ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.bypasses = nn.ModuleList(bypasses or [nn.Identity() for _ in self.stages])
        self.predictors = nn.ModuleList(predictors or [MeanPredictor() for _ in self.stages])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.stages)

    def forward(self, tokens: Tensor) -> Tensor:
        """(K, B, N, D) → (B, K, C)."""
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            logits.append(self.predictors[k](self.norms[k](self.bypasses[k](read))))
        return torch.stack(logits, dim=1)

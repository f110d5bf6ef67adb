"""A bypass as a plug-in: every token also sees the mean of the image's patches.

dmpo-explore --plugin context_bypass.py train --bypass context --context 0.5
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dmpo_explore.config import ModelConfig
from dmpo_explore.models import BYPASSES, Bypass, ExitShape
from dmpo_explore.utils.options import check_options, option


@dataclass(frozen=True)
class ContextOptions:
    """Options that the bypass brings along: `--context` on the command line, a field of the app's training form."""

    context: float = option(1.0, "Weight of the image's mean patch (bypass context).", ge=0, search=[0.0, 1.0])

    def __post_init__(self) -> None:
        check_options(self)


class ContextBypass(Bypass):
    """x + Up(GELU(Down(LN x) + context · mean patch)); Up starts at zero: training starts from the plain predictor."""

    options = ContextOptions

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int, context: float = 1.0) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.norm, self.down, self.up = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.context = context
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    @classmethod
    def at(cls, shape: ExitShape, config: ModelConfig) -> "ContextBypass":
        """A new one for tokens of this shape, with the option of the config."""
        return cls(shape.width, config.bypass_width, shape.grid, shape.prefix, config.part(ContextOptions).context)

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D), None."""
        hidden = self.down(self.norm(x))
        mean = hidden[:, self.prefix :].mean(dim=1, keepdim=True)
        return x + self.up(torch.nn.functional.gelu(hidden + self.context * mean)), None


BYPASSES["context"] = ContextBypass

"""The sizes that tests of predictors share, a predictor of these, and tokens for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

B, D, C, GRID, PREFIX = 3, 96, 7, (4, 5), 2
N = PREFIX + GRID[0] * GRID[1]


def tokens(seed: int = 0, width: int = D) -> Tensor:
    return torch.randn(B, N, width, generator=torch.Generator().manual_seed(seed))


def made(kind: type[Any], **arguments: Any) -> Any:
    torch.manual_seed(0)
    return kind(D, C, GRID, PREFIX, **arguments)

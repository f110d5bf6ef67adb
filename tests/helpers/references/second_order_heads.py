"""Incorrect answers and key numbers of 03_second_order_heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import dmpo_explore as dx

TOLERANCE = 1e-3  # the covariance follows rounding, which differs between machines


class ByOneLess(nn.Module):
    """The covariance head with torch's divisor, N - 1."""

    def __init__(self, width: int, channels: int, n_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, n_classes)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        patches = x[:, 1:]
        n = patches.shape[1]
        sigma = dx.models.covariance(self.reduce(patches)) * n / (n - 1)
        logits: Tensor = self.first(patches.mean(dim=1))
        return logits + self.second(dx.models.upper_triangle(dx.models.newton_schulz(sigma)))


def numbers() -> dict[str, float | int]:
    """The notebook's key numbers, computed again."""
    run = dx.load_run("fashion")
    model = run.model()
    stage = model.stages[0]
    width, grid, prefix = stage.width, stage.grid, stage.prefix
    heads = {
        "linear": dx.models.LinearPredictor(width, 10, prefix, "mean"),
        "covariance": dx.models.CovariancePredictor(width, 10, grid, prefix, "mean"),
        "newton_schulz": dx.models.CovariancePredictor(width, 10, grid, prefix, "mean", normalisation="isqrt"),
        "moment": dx.models.MomentPredictor(width, 10, grid, prefix, read="mean"),
    }
    with torch.no_grad():
        read = stage.norm(dx.stage_tokens(model, run.inputs("test", [8])).read[0])
        sigma = dx.models.covariance(stage.predictor.reduce(read[:, prefix:])).double()
    values, vectors = torch.linalg.eigh(sigma[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    parameters = {name: sum(p.numel() for p in head.parameters()) for name, head in heads.items()}
    return {
        **{f"{name}_flops": dx.models.count_flops(head, read) for name, head in heads.items()},
        "covariance_parameters": parameters["covariance"],
        "moment_parameters": parameters["moment"],
        "error_after_5": float((dx.models.newton_schulz(sigma, 5)[0] - root).norm() / root.norm()),
    }


SQUARE = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
NEGATIVE_ROOT = torch.tensor([[4.5, 0.0], [0.0, 1.0]])  # the iteration converges to -√4.5
SWINGS = torch.tensor([[5.0, 0.0], [0.0, 1.0]])  # z·y stays 5


def by_variances(sigma: Tensor) -> Tensor:
    """Divided by the variance of the row alone: 1 on the diagonal, but not symmetric."""
    return torch.nan_to_num(sigma / sigma.diagonal(dim1=1, dim2=2)[:, :, None])


INCORRECT = {1: by_variances, 2: (SQUARE, 2 * SQUARE), 3: torch.tensor([[0.5, 0.0], [0.0, 1.0]])}
BUILD_INCORRECT = ByOneLess

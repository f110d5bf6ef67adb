"""Answers and key numbers of 03_second_order_heads."""

from __future__ import annotations

import torch
from torch import Tensor

import dmpo_explore as dx

TOLERANCE = 1e-3  # the covariance follows rounding, which differs between machines


def centred(tokens: Tensor) -> Tensor:
    """Around the mean, divided by N."""
    away = tokens - tokens.mean(dim=0)
    return away.T @ away / len(tokens)


def by_one_less(tokens: Tensor) -> Tensor:
    """torch's divisor is N - 1."""
    return torch.cov(tokens.T)


def numbers() -> dict[str, float | int]:
    """The notebook's key numbers, computed again."""
    run = dx.load_run("demo")
    model = run.model()
    stage = model.stages[0]
    width, grid, prefix = stage.width, stage.grid, stage.prefix
    heads = {
        "linear": dx.models.LinearPredictor(width, 10, prefix, "both"),
        "covariance": dx.models.CovariancePredictor(width, 10, grid, prefix),
        "newton_schulz": dx.models.CovariancePredictor(width, 10, grid, prefix, normalisation="isqrt"),
        "moment": dx.models.MomentPredictor(width, 10, grid, prefix, read="both"),
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


ANSWERS = {1: 44, 2: centred, 3: torch.tensor([[9.0, 0.0], [0.0, 1.0]])}
INCORRECT = {1: 45, 2: by_one_less, 3: torch.tensor([[0.5, 0.0], [0.0, 1.0]])}

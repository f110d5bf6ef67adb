"""Checks of 03_second_order_heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dmpo_explore as dx
from exercises import exercise


@exercise
def check_1(answer: int) -> str:
    """Weights grow with the square of the channels, which is why tokens are reduced first."""
    import torch

    weights = {d: dx.models.upper_triangle(torch.zeros(1, d, d)).shape[1] * 10 for d in (answer, answer + 1)}
    if weights[answer] > 10_000:
        return f"{answer} channels take {weights[answer]:,} weights"
    return "" if weights[answer + 1] > 10_000 else f"{answer + 1} channels still fit"


@exercise
def check_2(answer: Callable[[Any], Any]) -> str:
    """The same as `dx.models.covariance`, which does it for B images at once."""
    import torch

    tokens = torch.randn(25, 6, generator=torch.Generator().manual_seed(0)) + 2
    result = answer(tokens)
    if result.shape != (6, 6):
        return f"a shape of {tuple(result.shape)}; 6 channels have a covariance of (6, 6)"
    if torch.allclose(result, tokens.T @ tokens / 25, atol=1e-5):
        return "that is the second moment around 0; a covariance is taken around the mean"
    return (
        "" if torch.allclose(result, dx.models.covariance(tokens[None])[0], atol=1e-5) else "mind the divisor: N tokens"
    )


@exercise
def check_3(answer: Any) -> str:
    """After division by the trace all eigenvalues lie between 0 and 1, where the iteration always converges."""
    import torch

    sigma = torch.as_tensor(answer, dtype=torch.float64)
    if sigma.shape != (2, 2) or not torch.equal(sigma, sigma.T) or torch.linalg.eigvalsh(sigma)[0] <= 0:
        return "it has to be 2 × 2, symmetric, with positive eigenvalues"
    y, z, three = sigma, torch.eye(2, dtype=torch.float64), 3 * torch.eye(2, dtype=torch.float64)
    for _ in range(30):
        step = (three - z @ y) / 2
        y, z = y @ step, step @ z
    converged = bool(torch.isfinite(y).all()) and torch.allclose(y @ y, sigma, rtol=1e-3)
    return "the iteration converges to the root there; how large may an eigenvalue be?" if converged else ""

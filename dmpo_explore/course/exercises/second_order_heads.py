"""Exercises of 03_second_order_heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import dmpo_explore as dx

from . import Lines, exercise, gives, same_weights


@exercise
def check_build(answer: type[Any]) -> Lines:
    """With the same weights it gives what the library's `CovariancePredictor` gives, to 1e-6."""
    theirs, ours = dx.models.CovariancePredictor(8, 3, (3, 3), 1, "mean", 4, "isqrt").double(), answer(8, 4, 3)
    weights = {name.replace("first.fc", "first"): weight for name, weight in theirs.state_dict().items()}
    yield from same_weights(ours.state_dict(), weights)
    ours = ours.double()
    tokens = 3 * torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    ours.load_state_dict({name: 0 * weight if "second" in name else weight for name, weight in weights.items()})
    yield gives(ours, (tokens,), theirs.first(tokens), "`first` reads the mean over the patches, without class token")
    ours.load_state_dict(weights)
    second = "`second` reads patches alone, centred, over N; 5 iterations; times √tr; triangle by rows"
    yield gives(ours, (tokens,), theirs(tokens), second)


@exercise
def check_1(answer: Callable[[Any], Any]) -> Lines:
    """It does not change when channels are scaled, so nothing is left of how much each of them varies."""
    x = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([0.1, 1.0, 2.0, 30.0]) + x[:, :, :1]
    expected = torch.stack([torch.corrcoef(image.T) for image in x])
    yield gives(answer, (dx.models.covariance(x),), expected, "a channel's correlation with itself is 1")
    x[:, :, 1], expected[:, 1], expected[:, :, 1] = 0, 0, 0
    yield gives(answer, (dx.models.covariance(x),), expected, "channel 2 does not vary here: 0 with all, itself too")


@exercise
def check_2(answer: tuple[Any, Any]) -> Lines:
    """The mean of each channel and its variance are first-order and diagonal; only the covariance differs."""
    one, other = (torch.as_tensor(cloud, dtype=torch.float64) for cloud in answer)
    yield one.shape[1:] == other.shape[1:] == (2,), "two clouds of shape (N, 2)"
    a, b = (dx.models.covariance(cloud[None])[0] for cloud in (one, other))
    yield torch.allclose(one.mean(0), other.mean(0), atol=1e-6), "their means differ"
    alike = torch.allclose(a.diagonal(), b.diagonal(), atol=1e-6)
    yield alike, "their variances differ: the entries on the diagonal must be the same"
    yield bool((a - b).abs()[0, 1] > 0.1 * a.diagonal().mean()), "their covariance is the same, too"


@exercise
def check_3(answer: Any) -> Lines:
    """After division by the trace all eigenvalues lie between 0 and 1, where the iteration always converges."""
    sigma = torch.as_tensor(answer, dtype=torch.float64)
    fits = sigma.shape == (2, 2) and torch.equal(sigma, sigma.T) and bool(torch.linalg.eigvalsh(sigma)[0] > 0)
    yield fits, "it has to be 2 × 2, symmetric, with positive eigenvalues"
    y, z, three = sigma, torch.eye(2, dtype=torch.float64), 3 * torch.eye(2, dtype=torch.float64)
    for _ in range(200):  # from just beyond the limit the first steps are small
        step = (three - z @ y) / 2
        y, z = y @ step, step @ z
    if not bool(torch.isfinite(y).all()):
        return
    yield torch.allclose(y @ y, sigma, rtol=1e-3), "it neither converges nor diverges: it swings for ever; go further"
    positive = bool((torch.linalg.eigvalsh((y + y.T) / 2) > 0).all())
    yield positive, "it converges, but to −√λ, a root that is not positive: go further, until it diverges"
    yield False, "the iteration converges to √Σ there; how large may an eigenvalue be?"

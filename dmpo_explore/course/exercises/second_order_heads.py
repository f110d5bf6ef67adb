"""Checks of 03_second_order_heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: type[Any]) -> str:
    """With the same weights it gives what the library's `CovariancePredictor` gives, to 1e-6."""
    import torch

    theirs, ours = dx.models.CovariancePredictor(8, 3, (3, 3), 1, "mean", 4, "isqrt").double(), answer(8, 4, 3)
    weights = {name.replace("first.fc", "first"): weight.detach() for name, weight in theirs.named_parameters()}
    found = {name: tuple(getattr(weight, "shape", ())) for name, weight in ours.named_parameters()}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != shapes:
        return f"at width 8, 4 channels and 3 classes the weights are {shapes}, not {found}"
    ours = ours.double()
    tokens = 3 * torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    ours.load_state_dict({name: 0 * weight if "second" in name else weight for name, weight in weights.items()})
    if not torch.allclose(ours(tokens), theirs.first(tokens), atol=1e-6, rtol=0):
        return "the first-order part differs: `first` reads the mean over the patches, without the class token"
    ours.load_state_dict(weights)
    if torch.allclose(ours(tokens), theirs(tokens), atol=1e-6, rtol=0):
        return ""
    return "the second-order part differs: patches alone, centred, over N; 5 iterations; times √tr; triangle by rows"


@exercise
def check_1(answer: Callable[[Any], Any]) -> str:
    """It does not change when channels are scaled, so nothing is left of how much each of them varies."""
    import torch

    x = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([0.1, 1.0, 2.0, 30.0]) + x[:, :, :1]
    sigma = dx.models.covariance(x)
    expected = torch.stack([torch.corrcoef(image.T) for image in x])
    given = answer(sigma.clone())
    if tuple(given.shape) != (3, 4, 4):
        return f"of Σ (3, 4, 4) it must return (3, 4, 4), not {tuple(given.shape)}"
    if not torch.allclose(given, expected, atol=1e-6):
        own = given.diagonal(dim1=1, dim2=2)
        which = (
            "a channel's with itself must be 1" if not torch.allclose(own, torch.ones_like(own)) else "others differ"
        )
        return f"these are not the correlations: {which}"
    sigma[:, 1], sigma[:, :, 1] = 0, 0
    still = answer(sigma.clone())
    if not bool(torch.isfinite(still).all()):
        return "a channel without variance gives nan or inf"
    return "" if not still[:, 1].any() and not still[:, :, 1].any() else "a channel without variance must give 0"


@exercise
def check_2(answer: tuple[Any, Any]) -> str:
    """The mean of each channel and its variance are first-order and diagonal; only the covariance differs."""
    import torch

    one, other = (torch.as_tensor(cloud, dtype=torch.float64) for cloud in answer)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != 2 or other.shape[1] != 2:
        return "two clouds of shape (N, 2)"
    (a, b), means = (dx.models.covariance(cloud[None])[0] for cloud in (one, other)), (one.mean(0), other.mean(0))
    if not torch.allclose(*means, atol=1e-6):
        return "their means differ"
    if not torch.allclose(a.diagonal(), b.diagonal(), atol=1e-6):
        return "their variances differ: the entries on the diagonal must be the same"
    return (
        "" if abs(float(a[0, 1] - b[0, 1])) > 0.1 * float(a.diagonal().mean()) else "their covariance is the same, too"
    )


@exercise
def check_3(answer: Any) -> str:
    """After division by the trace all eigenvalues lie between 0 and 1, where the iteration always converges."""
    import torch

    sigma = torch.as_tensor(answer, dtype=torch.float64)
    if sigma.shape != (2, 2) or not torch.equal(sigma, sigma.T) or torch.linalg.eigvalsh(sigma)[0] <= 0:
        return "it has to be 2 × 2, symmetric, with positive eigenvalues"
    y, z, three = sigma, torch.eye(2, dtype=torch.float64), 3 * torch.eye(2, dtype=torch.float64)
    for _ in range(200):  # from just beyond the limit the first steps are small
        step = (three - z @ y) / 2
        y, z = y @ step, step @ z
    if not bool(torch.isfinite(y).all()):
        return ""
    if not torch.allclose(y @ y, sigma, rtol=1e-3):
        return "it neither converges nor diverges: it swings for ever; go further"
    positive = bool((torch.linalg.eigvalsh((y + y.T) / 2) > 0).all())
    wrong_root = "it converges, but to −√λ, a root that is not positive: go further, until it diverges"
    return "the iteration converges to √Σ there; how large may an eigenvalue be?" if positive else wrong_root

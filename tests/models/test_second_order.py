"""Second-order statistics against independent re-derivations: torch.cov, eigendecomposition, einsum."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dmpo_explore.models.predictors import covariance, cross_moments, newton_schulz, signed_sqrt, upper_triangle

B, D, C, GRID, PREFIX = 3, 96, 7, (4, 5), 2
N = PREFIX + GRID[0] * GRID[1]


def tokens(seed: int = 0, width: int = D) -> Tensor:
    return torch.randn(B, N, width, generator=torch.Generator().manual_seed(seed))


def positive(n: int, smallest: float, seed: int = 0) -> Tensor:
    """Symmetric matrices (2, n, n) in float64 with eigenvalues from ``smallest`` to 1."""
    basis = torch.linalg.qr(torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed)).double()).Q
    scaled: Tensor = basis * torch.linspace(smallest, 1, n).double()
    return scaled @ basis.transpose(1, 2)


def root(sigma: Tensor) -> Tensor:
    """Matrix square root by eigendecomposition."""
    values, vectors = torch.linalg.eigh(sigma)
    scaled: Tensor = vectors * values.clamp_min(0).sqrt()[:, None]
    return scaled @ vectors.transpose(1, 2)


def array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().numpy()


def test_covariance_equals_torch_cov() -> None:
    x = tokens()
    expected = torch.stack([torch.cov(image.T, correction=0) for image in x])
    torch.testing.assert_close(covariance(x), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(2, 9), st.integers(0, 99))
def test_covariance_is_symmetric_positive_and_ignores_shifts(d: int, n: int, seed: int) -> None:
    x = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed)).double()
    sigma = covariance(x)
    torch.testing.assert_close(sigma, sigma.transpose(1, 2))
    torch.testing.assert_close(sigma, covariance(x + torch.arange(d)))
    torch.testing.assert_close(sigma, covariance(x.flip(1)))
    assert torch.linalg.eigvalsh(sigma).min() > -1e-9


def test_signed_sqrt() -> None:
    x = torch.tensor([-4.0, -0.01, 0.0, 0.25, 9.0], requires_grad=True)
    root = signed_sqrt(x)
    torch.testing.assert_close(root, torch.tensor([-2.0, -0.1, 0.0, 0.5, 3.0]), rtol=1e-4, atol=1e-6)
    root.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.25, 5.0, 1000.0, 1.0, 1 / 6]), rtol=1e-3, atol=0)


def test_newton_schulz_equals_the_eigendecomposition() -> None:
    sigma = 5 * positive(8, 0.3)
    torch.testing.assert_close(newton_schulz(sigma, 15, eps=0), root(sigma), rtol=1e-8, atol=1e-8)
    error = (newton_schulz(sigma) - root(sigma)).norm() / root(sigma).norm()
    assert error < 0.06  # five iterations are an approximation


def test_newton_schulz_follows_the_published_recurrence() -> None:
    sigma = array(positive(6, 0.01))
    trace = np.trace(sigma, axis1=1, axis2=2)[:, None, None]
    y, z = sigma / trace, np.broadcast_to(np.eye(6), sigma.shape)
    for _ in range(5):
        y, z = 0.5 * y @ (3 * np.eye(6) - z @ y), 0.5 * (3 * np.eye(6) - z @ y) @ z
    np.testing.assert_allclose(array(newton_schulz(torch.from_numpy(sigma), 5, eps=0)), np.sqrt(trace) * y, rtol=1e-9)


def test_newton_schulz_survives_fewer_tokens_than_channels() -> None:
    sigma = covariance(torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).double())
    torch.testing.assert_close(newton_schulz(sigma, 25, eps=0), root(sigma), rtol=1e-6, atol=1e-6)


def test_upper_triangle_is_row_by_row() -> None:
    x = torch.arange(18.0).view(2, 3, 3)
    assert upper_triangle(x).tolist() == [[0, 1, 2, 4, 5, 8], [9, 10, 11, 13, 14, 17]]


def test_cross_moments_equal_an_einsum() -> None:
    heads = torch.randn(B, 20, 4, 6, generator=torch.Generator().manual_seed(0))
    h = array(heads)
    h = h - h.mean(axis=(1, 3), keepdims=True)  # one scalar per sample and head
    expected = np.stack([np.einsum("bnv,bnw->bvw", h[:, :, i], h[:, :, i + 1]) / 20 for i in range(3)], axis=1)
    expected /= np.sqrt(np.einsum("bivw,bivw->biw", expected, expected))[:, :, None, :]
    got = cross_moments(heads)
    np.testing.assert_allclose(array(got), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.norm(dim=2), torch.ones(B, 3, 6))

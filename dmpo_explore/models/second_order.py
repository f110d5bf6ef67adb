"""Second-order statistics of tokens: covariance, its normalisations, cross moments; float32 also under autocast.

The signed square root is of Lin et al. 2015, the Newton-Schulz square root of iSQRT-COV (Li et al. 2018), the cross
moments of the Moment Probing head (Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

EPS = 1e-6


def covariance(x: Tensor) -> Tensor:
    """(B, N, d) → (B, d, d): covariance over the N tokens, divided by N.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
        >>> covariance(x).tolist()
        [[[1.0, 0.0], [0.0, 0.0]]]
    """
    N = x.shape[1]
    centred = x - x.mean(dim=1, keepdim=True)
    return centred.transpose(1, 2) @ centred / N


def signed_sqrt(x: Tensor, eps: float = EPS) -> Tensor:
    """sign(x)·√|x| elementwise, smoothed to x/√(|x|+eps) so that its slope at 0 is 1/√eps, not infinite.

    Example:
        >>> signed_sqrt(torch.tensor([-4.0, 9.0])).round(decimals=3).tolist()
        [-2.0, 3.0]
    """
    return x * torch.rsqrt(x.abs() + eps)


def newton_schulz(sigma: Tensor, iterations: int = 5, eps: float = EPS) -> Tensor:
    """Approximate matrix square root of covariances (B, d, d) → (B, d, d), by multiplications only.

    A = Σ/tr Σ; Y ← ½Y(3I−ZY), Z ← ½(3I−ZY)Z from Y = A, Z = I; the answer is √(tr Σ)·Y.
    ``eps`` is added to the trace: Σ = 0 gives 0 with finite gradients.

    Raises:
        ValueError: fewer than one iteration.

    Example:
        >>> newton_schulz(4 * torch.eye(2)[None], iterations=8).round(decimals=2).tolist()
        [[[2.0, 0.0], [0.0, 2.0]]]
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + eps  # (B, 1, 1)
    three = 3 * torch.eye(sigma.shape[-1], dtype=sigma.dtype, device=sigma.device)
    y = sigma / trace
    z = step = (three - y) / 2  # ½(3I−ZY) with Z = I
    y = y @ step
    for left in range(iterations - 1, 0, -1):
        step = (three - z @ y) / 2
        y = y @ step
        z = step @ z if left > 1 else z  # the last Z is never read
    return y * trace.sqrt()


def root_of_covariance(x: Tensor, iterations: int = 5, eps: float = EPS) -> Tensor:
    """(B, N, d) → (B, d, d): ``newton_schulz(covariance(x))`` in fewer operations, for inference.

    Every step of the iteration is a polynomial of Σ, so with XᵀX = NΣ and G = XXᵀ/N (N×N) the root is
    √(tr)·XᵀZX/(N·tr), Z from the same iteration on G: N instead of d wherever there are fewer tokens than channels.
    Elsewhere it has one product more than `newton_schulz`, and fewer operations all the same.

    Raises:
        ValueError: fewer than one iteration.
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    N, d = x.shape[1:]
    centred = x - x.mean(dim=1, keepdim=True)
    rows, columns = (centred, centred.transpose(1, 2)) if d > N else (centred.transpose(1, 2), centred)
    few = rows @ columns  # (B, n, n) with n = min(N, d): NG or NΣ
    trace = few.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + N * eps  # N times `newton_schulz`'s
    three_halves = torch.eye(few.shape[-1], dtype=x.dtype, device=x.device) * 1.5
    y = few / trace
    z = step = torch.sub(three_halves, y, alpha=0.5)
    for _ in range(iterations - 1):
        y = y @ step
        step = torch.baddbmm(three_halves, z, y, alpha=-0.5)  # ½(3I−ZY)
        z = step @ z
    scale = torch.rsqrt(N * trace)
    return columns @ ((z * scale) @ rows) if d > N else few @ (z * scale)


def upper_triangle(x: Tensor) -> Tensor:
    """(B, d, d) → (B, d(d+1)/2): diagonal and above, row by row.

    Example:
        >>> upper_triangle(torch.tensor([[[1.0, 2.0], [2.0, 3.0]]])).tolist()
        [[1.0, 2.0, 3.0]]
    """
    d = x.shape[-1]
    rows, columns = torch.triu_indices(d, d, device=x.device)
    return x.flatten(1).index_select(1, rows * d + columns)  # faster backward than x[:, rows, columns]


def cross_moments(heads: Tensor, eps: float = EPS) -> Tensor:
    """Normalised cross-covariances of neighbouring heads: (B, N, H, w) → (B, H-1, w, w).

    As in the release: from each head its mean over tokens *and* channels is subtracted, one scalar per sample and
    head; C_i = H_iᵀ H_{i+1} / N; each column is divided by its Euclidean length. Ours: the length is smoothed as
    √(‖·‖² + eps²), so that a zero column stays zero with finite gradients.

    Example:
        >>> tuple(cross_moments(torch.randn(2, 9, 4, 16)).shape)  # 4 heads, 16 wide
        (2, 3, 16, 16)
        >>> one = torch.tensor([[1.0, 3.0], [5.0, 7.0]])  # 2 tokens of 2 channels; the scalar is 4
        >>> cross_moments(one[None, :, None].repeat(1, 1, 2, 1))[0, 0].mul(1000).round().tolist()
        [[857.0, 514.0], [514.0, 857.0]]
    """
    N = heads.shape[1]
    centred = (heads - heads.mean(dim=(1, 3), keepdim=True)).transpose(1, 2)  # (B, H, N, w)
    moments = centred[:, :-1].transpose(-1, -2) @ centred[:, 1:] / N  # (B, H-1, w, w)
    return moments * torch.rsqrt(moments.square().sum(dim=-2, keepdim=True) + eps**2)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sqrt": signed_sqrt, "isqrt": newton_schulz}


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on ``x``'s device; a no-op if autocast is off, which helps the export."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or unchanged if its type is wider."""
    return x if x.dtype == torch.float64 else x.float()

"""Linear centred kernel alignment (CKA): similarity of two representations of the same inputs.

In: n rows in two representations, (n,p) and (n,q). Out: a number, or a matrix of them. Kornblith et al. 2019 (arXiv
1905.00414), in feature form: no n × n matrix is built. The debiased form takes the unbiased HSIC of Song et al. 2012
(JMLR 13, eq. 5). Ours: in `cka_matrix` tokens (B,N,D) count as B·N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..utils.typing import Floats


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    """Linear CKA of two representations of the same n rows: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), columns centred.

    It is 1 for representations equal up to rotation and one common scale, and 0 for uncorrelated ones.

    Args:
        x, y: (n,p) and (n,q).
        debiased: with the unbiased HSIC, which needs n ≥ 4. The plain form is far above 0 for unrelated x and y unless
            n is much larger than p and q; the debiased form has mean 0 there and may be negative.

    Raises:
        ValueError: tokens (B,N,D), which can be flattened in two ways; other numbers of rows, too few rows, or a
            representation that does not vary.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> round(dx.linear_cka(x, 3 * x.flip(1)), 6)  # rotated and scaled
        1.0
    """
    if x.ndim > 2 or y.ndim > 2:
        raise ValueError(
            f"x {tuple(x.shape)} and y {tuple(y.shape)} must be (n, p) and (n, q): flatten tokens (B, N, D) with "
            "flatten(0, 1), a row per token, as cka_matrix does, or with flatten(1), a row per image"
        )
    if x.ndim < 2 or y.ndim < 2 or len(x) != len(y) or len(x) < (4 if debiased else 2):
        shapes = f"x {tuple(x.shape)} and y {tuple(y.shape)}"
        raise ValueError(f"{shapes} must be (n, p) and (n, q) with n of at least 2, debiased at least 4")
    centred = [z - z.mean(dim=0) for z in (x.double(), y.double())]
    a, b = centred
    hsic = _unbiased_hsic if debiased else _hsic
    own = [hsic(z, z) for z in centred]
    if min(own) <= 0:
        raise ValueError("a representation does not vary over the rows; CKA is not defined")
    return hsic(a, b) / math.sqrt(own[0] * own[1])


def _hsic(x: Tensor, y: Tensor) -> float:
    """‖YᵀX‖²: Σ_ij K_ij L_ij of the Gram matrices of centred x and y, without building them."""
    return float((y.T @ x).square().sum())


def _unbiased_hsic(x: Tensor, y: Tensor) -> float:
    """n(n−3) times the unbiased HSIC: tr K̃L̃ + 1ᵀK̃1·1ᵀL̃1 / ((n−1)(n−2)) − 2·1ᵀK̃L̃1 / (n−2).

    K̃ and L̃ are the Gram matrices with zeros on the diagonal.
    """
    n = len(x)
    diagonals = [z.square().sum(dim=1) for z in (x, y)]
    sums = [z @ z.sum(dim=0) - diagonal for z, diagonal in zip((x, y), diagonals, strict=True)]  # K̃1 and L̃1
    trace = _hsic(x, y) - float(diagonals[0] @ diagonals[1])
    both = float(sums[0].sum() * sums[1].sum()) / ((n - 1) * (n - 2))
    return trace + both - 2 * float(sums[0] @ sums[1]) / (n - 2)


def cka_matrix(xs: Sequence[Tensor], ys: Sequence[Tensor], *, debiased: bool = False) -> Floats:
    """Linear CKA of every pair of representations, (len(xs), len(ys)); tokens (B,N,D) count as B·N rows.

    Args:
        xs, ys: representations (…,D) of the same rows. debiased: as `linear_cka`.

    Raises:
        ValueError: as `linear_cka`.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> tokens = [torch.randn(4, 5, 3), torch.randn(4, 5, 6)]
        >>> dx.inspection.cka_matrix(tokens, tokens).shape
        (2, 2)
    """
    rows = [[z.flatten(0, -2) for z in side] for side in (xs, ys)]
    return np.array([[linear_cka(x, y, debiased=debiased) for y in rows[1]] for x in rows[0]])

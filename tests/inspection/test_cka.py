"""Linear CKA equals its definition by Gram matrices and keeps its invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dmpo_explore.inspection.cka import cka_matrix, linear_cka


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x: Tensor, y: Tensor) -> float:
    """HSIC(K, L)/√(HSIC(K, K) HSIC(L, L)) with HSIC = tr KHLH, H the centring matrix (Kornblith et al. 2019, eq. 3)."""
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n

    def hsic(a: Tensor, b: Tensor) -> float:
        return float(torch.trace(a @ a.T @ centre @ b @ b.T @ centre))

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


def debiased_by_definition(x: Tensor, y: Tensor) -> float:
    """With HSIC_1 of Song et al. 2012 on Gram matrices without diagonal."""
    n = len(x)

    def hsic(a: Tensor, b: Tensor) -> float:
        k, l_ = a @ a.T, b @ b.T
        k.fill_diagonal_(0)
        l_.fill_diagonal_(0)
        ones = torch.ones(n, dtype=torch.float64)
        value = torch.trace(k @ l_) + (ones @ k @ ones) * (ones @ l_ @ ones) / ((n - 1) * (n - 2))
        return float(value - 2 / (n - 2) * (ones @ k @ l_ @ ones)) / (n * (n - 3))

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


@given(st.integers(5, 30), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_it_is_the_definition(n: int, p: int, q: int, seed: int) -> None:
    x, y = random(n, p, seed=seed) + 3, random(n, q, seed=seed + 1) - 1
    y[:, 0] += x[:, 0]
    assert linear_cka(x, y) == pytest.approx(by_definition(x, y), abs=1e-9)
    assert linear_cka(x, y, debiased=True) == pytest.approx(debiased_by_definition(x, y), abs=1e-9)


@given(st.integers(0, 1000), st.booleans())
def test_turning_shifting_and_scaling_change_nothing(seed: int, debiased: bool) -> None:
    x, y = random(40, 6, seed=seed), random(40, 5, seed=seed + 1)
    y[:, :3] += x[:, :3]
    rotation = torch.linalg.qr(random(6, 6, seed=seed + 2)).Q
    value = linear_cka(x, y, debiased=debiased)
    assert linear_cka(-7 * x @ rotation + 2, y, debiased=debiased) == pytest.approx(value, abs=1e-9)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(value, abs=1e-9)
    assert linear_cka(x, x @ rotation, debiased=debiased) == pytest.approx(1, abs=1e-9)


def test_an_invertible_map_that_is_no_rotation_changes_it() -> None:
    x = random(40, 6)
    assert linear_cka(x, x * torch.tensor([1.0, 1, 1, 1, 1, 20], dtype=torch.float64)) < 0.9


def test_only_the_debiased_form_finds_nothing_where_nothing_is() -> None:
    values = {d: [linear_cka(random(60, 80, seed=2 * s), random(60, 80, seed=2 * s + 1), debiased=d) for s in range(40)]
              for d in (False, True)}  # fmt: skip
    assert min(values[False]) > 0.4  # as many columns as rows: far from 0
    mean, error = np.mean(values[True]), np.std(values[True]) / math.sqrt(40)
    assert abs(mean) < 3 * error


def test_float32_serves() -> None:
    x = random(30, 18)
    assert linear_cka(x.float(), x) == pytest.approx(1, abs=1e-6)


def test_a_matrix_takes_tokens_as_rows() -> None:
    xs, ys = [random(5, 7, 3), random(5, 7, 4, seed=1)], [random(5, 7, 2, seed=2)]
    matrix = cka_matrix(xs, ys)
    assert matrix.shape == (2, 1)
    assert matrix[1, 0] == linear_cka(xs[1].reshape(35, 4), ys[0].reshape(35, 2))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (random(5, 3), random(6, 3), r"x \(5, 3\) and y \(6, 3\)"),
        (
            random(5, 7, 3),
            random(5, 7, 3),
            r"flatten\(0, 1\), a row per token, .* or with flatten\(1\), a row per image",
        ),
        (random(3, 3), random(3, 3), "debiased at least 4"),
        (torch.ones(5, 3), random(5, 3), "does not vary"),
    ],
)
def test_wrong_arguments_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_cka(x, y, debiased=len(x) == 3)

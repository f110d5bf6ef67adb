"""Predictors: every statistic against an independent re-derivation, sizes, bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from predictor_input import GRID, PREFIX, B, C, D, N, made, tokens
from torch import Tensor

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.predictors import (
    NORMALISATIONS,
    PREDICTORS,
    CovariancePredictor,
    LinearPredictor,
    MomentPredictor,
    newton_schulz,
)


def array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().numpy()


# --- linear ---


def test_linear_reads() -> None:
    x = tokens()
    cls, mean = x[:, 0], x[:, PREFIX:].mean(1)
    for read, vector in (("cls", cls), ("mean", mean), ("both", torch.cat((cls, mean), 1))):
        predictor = LinearPredictor(D, C, PREFIX, read)
        torch.testing.assert_close(predictor(x), vector @ predictor.fc.weight.T + predictor.fc.bias)


def test_linear_mean_without_class_token() -> None:
    predictor = LinearPredictor(D, C, 0, "mean")
    torch.testing.assert_close(predictor(tokens()), predictor.fc(tokens().mean(1)))


# --- covariance ---


@pytest.mark.parametrize("normalisation", ["sqrt", "isqrt"])
def test_covariance_predictor_equals_numpy(normalisation: str) -> None:
    predictor, x = made(CovariancePredictor, channels=10, normalisation=normalisation), tokens()
    patches = array(x)[:, PREFIX:] @ array(predictor.reduce.weight).T
    sigma = np.stack([np.cov(image, rowvar=False, bias=True) for image in patches])
    if normalisation == "sqrt":
        sigma = np.sign(sigma) * np.sqrt(np.abs(sigma))
    else:
        sigma = array(newton_schulz(torch.from_numpy(sigma)))
    vector = np.stack([image[np.triu_indices(10)] for image in sigma])
    read = np.concatenate((array(x)[:, 0], array(x)[:, PREFIX:].mean(1)), axis=1)
    expected = (
        read @ array(predictor.first.fc.weight).T
        + array(predictor.first.fc.bias)
        + vector @ array(predictor.second.weight).T
    )
    np.testing.assert_allclose(array(predictor(x)), expected, rtol=1e-3, atol=2e-4)


def test_covariance_at_the_defaults_of_a_config() -> None:
    predictor = CovariancePredictor(384, 10, (5, 5), 1)
    assert predictor.normalise is NORMALISATIONS[ModelConfig().normalisation]
    assert predictor.second.in_features == 48 * 49 // 2 == 1176
    assert sum(p.numel() for p in predictor.parameters()) == 2 * 384 * 10 + 10 + 384 * 48 + 1176 * 10


# --- moment ---


def convolve(x: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """3x3 convolution, stride 2, no padding, by explicit sums."""
    side = (x.shape[-1] - 3) // 2 + 1
    out = np.zeros((len(x), len(weight), side, side))
    for r in range(side):
        for c in range(side):
            window = x[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
            out[:, :, r, c] = np.einsum("bihw,oihw->bo", window, weight)
    return out


def test_moment_predictor_equals_numpy() -> None:
    """The release's formula, of the trunk's own tokens; the class token is read behind bypass and norm."""
    predictor, x, raw = made(MomentPredictor), tokens(), 3 * tokens(1) + 1
    torch.nn.init.normal_(predictor.norm.weight)
    torch.nn.init.normal_(predictor.norm.bias)
    n, width = N - PREFIX, 16
    h = (array(raw)[:, PREFIX:] @ array(predictor.reduce.weight).T).reshape(B, n, 4, width)
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    h = h * array(predictor.norm.weight) + array(predictor.norm.bias)
    for sample in range(B):
        for head in range(4):
            h[sample, :, head] -= h[sample, :, head].sum() / (n * width)
    moments = np.stack([h[:, :, i].transpose(0, 2, 1) @ h[:, :, i + 1] / n for i in range(3)], axis=1)
    moments = moments / np.linalg.norm(moments, axis=2, keepdims=True)
    hidden = convolve(moments, array(predictor.convs[0].weight))
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    vector = convolve(hidden, array(predictor.convs[2].weight)).reshape(B, -1)
    np.testing.assert_allclose(array(predictor.statistics(raw)), vector, rtol=1e-3, atol=1e-5)
    first = array(x)[:, 0] @ array(predictor.first.fc.weight).T + array(predictor.first.fc.bias)
    expected = (first + vector @ array(predictor.second.weight).T) / 2
    np.testing.assert_allclose(array(predictor(x, raw)), expected, rtol=1e-3, atol=1e-5)


def test_moment_sizes_of_the_release() -> None:
    predictor = MomentPredictor(768, 100, (14, 14), 1)
    assert predictor.reduce.out_features == 512 and predictor.norm.normalized_shape == (128,)
    assert predictor.second.in_features == 2883
    assert predictor.statistics(torch.randn(1, 197, 768)).shape == (1, 2883)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in predictor.named_children()}
    assert parts == {
        "first": 768 * 100 + 100,
        "reduce": 768 * 512,
        "norm": 2 * 128,
        "convs": 2 * 3 * 3 * 9,
        "second": 2883 * 100,
    }
    block = 12 * 768**2 + 13 * 768  # a ViT-B block with biases and norms
    assert 0.05 < (parts["reduce"] + parts["norm"] + parts["convs"]) / block < 0.065


@pytest.mark.parametrize(
    ("width", "channels", "vector"),
    [(96, 64, 27), (192, 128, 147), (384, 256, 675), (768, 512, 2883), (1024, 680, 5043)],
)
def test_moment_sizes_follow_the_width(width: int, channels: int, vector: int) -> None:
    predictor = MomentPredictor(width, C, GRID, PREFIX)
    assert predictor.reduce.out_features == channels and predictor.second.in_features == vector
    assert predictor(tokens(width=width)).shape == (B, C)


def test_moment_takes_other_heads() -> None:
    predictor = made(MomentPredictor, read="both", heads=2, channels=40)
    assert predictor.statistics(tokens()).shape == (B, 1 * 4 * 4)
    assert predictor(tokens()).shape == (B, C)


# --- bad input ---


def test_registry() -> None:
    own = {"linear": LinearPredictor, "moment": MomentPredictor, "covariance": CovariancePredictor}
    assert own.items() <= PREDICTORS.items()


@pytest.mark.parametrize("kind", [MomentPredictor, CovariancePredictor])
def test_one_patch_has_no_second_order(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match="fewer than 2 patches"):
        kind(D, C, (1, 1), PREFIX)


def test_narrow_moment_heads() -> None:
    with pytest.raises(ValueError, match=r"heads are 15 wide \(trunk width 95, 4 heads\) and need 16"):
        MomentPredictor(95, C, GRID, PREFIX)
    with pytest.raises(ValueError, match="heads=1 must be at least 2"):
        MomentPredictor(D, C, GRID, PREFIX, heads=1)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown read 'class'.*both, cls, mean"):
        LinearPredictor(D, C, PREFIX, "class")
    with pytest.raises(ValueError, match=r"unknown normalisation 'log'.*isqrt, sqrt"):
        CovariancePredictor(D, C, GRID, PREFIX, normalisation="log")

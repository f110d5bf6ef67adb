"""Both second-order predictors: what they read, gradients at zero, autocast, and what they are for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from predictor_input import PREFIX, B, made, tokens
from small_model import made as made_model
from small_model import pictures
from torch import Tensor
from torch.nn import functional as F

from dmpo_explore.models.predictors import (
    CovariancePredictor,
    LinearPredictor,
    MomentPredictor,
)

SECOND_ORDER: list[tuple[type[Any], dict[str, Any]]] = [
    (MomentPredictor, {}),
    (CovariancePredictor, {"channels": 10}),
    (CovariancePredictor, {"channels": 10, "normalisation": "isqrt"}),
]


@pytest.mark.parametrize(("kind", "arguments"), SECOND_ORDER)
def test_statistics_read_patches_only_and_no_order(kind: type[Any], arguments: dict[str, Any]) -> None:
    predictor, x = made(kind, **arguments), tokens()
    before = predictor.statistics(x)
    changed = x.clone()
    changed[:, :PREFIX] = 5
    assert torch.equal(predictor.statistics(changed), before)
    shuffled = torch.cat((x[:, :PREFIX], x[:, PREFIX:].flip(1)), dim=1)
    torch.testing.assert_close(predictor.statistics(shuffled), before, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(predictor(x[1:2]), predictor(x)[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "arguments"), SECOND_ORDER)
@pytest.mark.parametrize("case", ["equal", "zero", "nearly equal", "one image"])
def test_gradients_are_finite_at_zero_covariance(kind: type[Any], arguments: dict[str, Any], case: str) -> None:
    predictor, x = made(kind, **arguments), tokens()
    if case == "zero":
        x = torch.zeros_like(x)
    elif case == "one image":
        x[0] = x[0, :1]
    else:
        x = x[:, :1].expand_as(x) + (1e-7 * x if case == "nearly equal" else 0)
    x = x.clone().requires_grad_()
    logits = predictor(x)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.arange(B)).backward()
    for gradient in (x.grad, *(p.grad for p in predictor.parameters())):
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() < 1e3


@pytest.mark.parametrize(("kind", "arguments"), SECOND_ORDER)
def test_gradients_are_right(kind: type[Any], arguments: dict[str, Any]) -> None:
    predictor, x = made(kind, **arguments).double(), tokens().double().requires_grad_()
    direction = tokens(1).double()
    predictor(x)[:, 0].sum().backward()
    assert x.grad is not None
    slope = float((x.grad * direction).sum())
    with torch.no_grad():
        ahead, behind = (predictor(x + s * 1e-5 * direction)[:, 0].sum() for s in (1, -1))
    assert slope == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-5)


@pytest.mark.parametrize(("kind", "arguments"), SECOND_ORDER)
def test_bf16_autocast(kind: type[Any], arguments: dict[str, Any]) -> None:
    predictor, x = made(kind, **arguments), tokens()
    exact = predictor(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits = predictor(x)
        F.cross_entropy(logits, torch.arange(B)).backward()
    assert logits.dtype == torch.bfloat16
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in predictor.parameters())


def test_second_order_part_stays_float32_under_autocast() -> None:
    seen = []

    def spy(sigma: Tensor) -> Tensor:
        seen.append((sigma.dtype, torch.is_autocast_enabled("cpu")))
        return sigma

    predictor = made(CovariancePredictor, channels=10)
    predictor.normalise = spy
    with torch.autocast("cpu", torch.bfloat16):
        predictor(tokens())
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(torch.float32, False)]


@pytest.mark.parametrize(("kind", "arguments"), SECOND_ORDER)
def test_a_bf16_module_keeps_its_type(kind: type[Any], arguments: dict[str, Any]) -> None:
    assert made(kind, **arguments).bfloat16()(tokens().bfloat16()).dtype == torch.bfloat16


def test_second_order_separates_what_the_means_cannot() -> None:
    """Two classes with equal means and different correlation: the reason for a high-order predictor."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(128, 1 + 16, 8, generator=generator)
    labels = torch.arange(128) % 2
    sign = torch.where(labels == 1, 1.0, -1.0)[:, None]
    noise[:, 1:, 1] = 0.6 * noise[:, 1:, 1] + 0.8 * sign * noise[:, 1:, 0]
    accuracy = {}
    for name, predictor in {
        "linear": LinearPredictor(8, 2, 1, "both"),
        "covariance": CovariancePredictor(8, 2, (4, 4), 1, channels=8),
    }.items():
        optimizer = torch.optim.AdamW(predictor.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(predictor(noise[:64]), labels[:64]).backward()
            optimizer.step()
        accuracy[name] = float((predictor(noise[64:]).argmax(1) == labels[64:]).float().mean())
    assert accuracy["covariance"] > 0.95 and accuracy["linear"] < 0.75


@torch.no_grad()
def test_moment_reads_the_trunk_before_bypass_and_norm() -> None:
    """In the model, in the stage alone, and from stored tokens with the bypass switched off."""
    model: Any = made_model(backbone="vit_tiny_patch16_224", exits=2, predictor="moment")
    first, images = model.stages[0], pictures()
    raw = first.trunk(model.embed(images))
    read, _ = first.bypass(raw)
    head, normed = first.predictor, first.norm(read)
    expected = (head.first(normed) + head.second(head.statistics(raw))) / 2 * first.scale
    torch.testing.assert_close(model(images)[:, 0], expected)
    torch.testing.assert_close(first.predict(raw)[0], expected)
    assert (model(images)[:, 0] - head(normed) * first.scale).abs().max() > 1e-3

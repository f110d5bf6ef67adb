"""Predictors prepared for inference: the logits of the trained ones, in fewer operations."""

from __future__ import annotations

import pytest
import torch
from operations import Operations
from tiny import tiny_config
from torch import Tensor, nn

import dmpo_explore as dx
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.flops import count_flops
from dmpo_explore.models.predictors import (
    PREDICTORS,
    CovariancePredictor,
    PreparedCovariance,
    cast_products,
    covariance,
    newton_schulz,
    prepare,
    root_of_covariance,
)
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.training.accelerator import frozen_in

VIEWS = ("view", "transpose", "t", "slice", "unsqueeze", "expand", "diagonal", "permute", "_unsafe_view", "detach")


def operations(module: nn.Module, x: Tensor) -> int:
    """How many run, views left out."""
    with torch.inference_mode(), Operations() as ran:
        module(x)
    return sum(name not in VIEWS for name in ran.names)


def trained(grid: tuple[int, int], normalisation: str = "isqrt") -> CovariancePredictor:
    torch.manual_seed(0)
    return CovariancePredictor(24, 7, grid, 1, channels=12, normalisation=normalisation)


def tokens(grid: tuple[int, int]) -> Tensor:
    return torch.randn(3, 1 + grid[0] * grid[1], 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n", [2, 11, 12, 13, 40])  # fewer tokens than channels, as many, more
def test_the_root_is_newton_schulz(n: int) -> None:
    x = torch.randn(3, n, 12, generator=torch.Generator().manual_seed(2)).double()
    for iterations in (1, 2, 5):
        torch.testing.assert_close(root_of_covariance(x, iterations), newton_schulz(covariance(x), iterations))


def test_it_is_nearer_to_the_exact_iteration_where_tokens_are_few() -> None:
    x = torch.randn(8, 6, 48, generator=torch.Generator().manual_seed(3))
    exact = newton_schulz(covariance(x.double()))
    assert (root_of_covariance(x) - exact).abs().max() < (newton_schulz(covariance(x)) - exact).abs().max()


def test_equal_tokens_give_zero() -> None:
    assert torch.equal(root_of_covariance(torch.ones(2, 4, 6)), torch.zeros(2, 6, 6))


@pytest.mark.parametrize("grid", [(2, 2), (5, 5)])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_the_logits_stay(grid: tuple[int, int], precision: torch.dtype | None) -> None:
    predictor, x = trained(grid), tokens(grid)
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision is not None):
        before, after = predictor(x), PreparedCovariance(predictor)(x)
    assert before.dtype == after.dtype
    torch.testing.assert_close(after, before, **({} if precision is None else {"atol": 0.02, "rtol": 0.02}))


@pytest.mark.parametrize("grid", [(2, 2), (5, 5)])
def test_fewer_operations_run(grid: tuple[int, int]) -> None:
    predictor, x = trained(grid), tokens(grid)
    assert operations(PreparedCovariance(predictor), x) <= 0.75 * operations(predictor, x)


def test_fewer_flops_where_tokens_are_few() -> None:
    predictor, x = trained((2, 2)), tokens((2, 2))
    assert count_flops(PreparedCovariance(predictor), x) < count_flops(predictor, x)


def test_one_product_more_where_tokens_are_many() -> None:
    x = torch.zeros(1, 25, 16)
    plain = count_flops(lambda x: newton_schulz(covariance(x)), x)
    assert count_flops(root_of_covariance, x) == plain + 2 * 16**3


def test_only_what_has_a_faster_form_is_changed() -> None:
    config = dx.ModelConfig("test_vit", "random", 32, exits=3, normalisation="sqrt")
    assert prepare(dx.build_model(config, 3).eval()) == 0
    model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=3, normalisation="isqrt"), 3).eval()
    kinds = [type(stage.predictor).__name__ for stage in model.stages]
    assert prepare(model) == kinds.count("CovariancePredictor") == 2
    assert prepare(model) == 0  # a second time


@pytest.mark.slow
def test_a_merged_model_is_prepared_and_counted_by_the_methods_products() -> None:
    model = {"exits": 3, "normalisation": "isqrt"}
    run = dx.train(tiny_config(model=model, epochs=1), "run", device="cpu")
    merged = run.model("cpu", merge=True)
    assert any(type(stage.predictor) is PreparedCovariance for stage in merged.stages)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merged(images), run.model("cpu")(images), atol=1e-4, rtol=1e-4)
    plain = dx.models.measure_flops(run.model("cpu"), dx.models.build_reference(run.config.model, 10))
    assert count_flops(merged, images[:1]) < plain.cumulative[-1]


KINDS = [
    {"predictor": predictor, "bypass": bypass}
    for predictor in PREDICTORS
    for bypass in ("none", "conv") if predictor != "linear"
] + [{"predictor": "linear", "bypass": bypass} for bypass in BYPASSES]  # fmt: skip


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds.values()))
def test_weights_that_are_cast_once_give_the_bits_of_autocast(kinds: dict[str, str]) -> None:
    backbone = "vit_tiny_patch16_224" if kinds["predictor"] == "moment" else "test_vit"  # whose heads are too narrow
    model = dx.build_model(dx.ModelConfig(backbone, "random", 32, exits=3, **kinds), n_classes=4).eval()
    dx.models.merge(model)
    prepare(model)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images)
        assert cast_products(model, torch.bfloat16) > 12
        assert torch.equal(model(images), expected)


def test_standardised_convolutions_are_left_to_autocast() -> None:
    """Their weights are standardised in float32 and cast then: cast before, they would give other bits."""
    parts = {"bypass": "none", "predictor": "linear", "tuning": "none"}
    model = dx.build_model(dx.ModelConfig("resnetv2_50x1_bit", "random", 32, exits=(1,), **parts), n_classes=4).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images)
        with frozen_in(model, torch.bfloat16):
            assert torch.equal(model(images), expected)
        assert cast_products(model, torch.bfloat16) > 0
        assert torch.equal(model(images), expected)


def test_a_cast_model_runs_in_its_own_precision() -> None:
    model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=4).eval()
    images, policy = torch.randn(5, 3, 32, 32), dx.policies.ConfidencePolicy((0.3,))
    expected = dx.infer(model, images, policy, precision="bf16")
    cast_products(model, torch.bfloat16)
    model.precision = "bf16"
    found = dx.infer(model, images, policy)
    assert found.exit.tolist() == expected.exit.tolist() and found.confidence.tolist() == expected.confidence.tolist()
    assert dx.stream(model, [images], policy).exit.tolist() == expected.exit.tolist()
    meta = RecordMeta("noise", "test", tuple("abcd"), model.exits, (1, 2), 2)
    record = dx.record_split(model, [(images, torch.arange(5) % 4)], meta)
    assert policy.exits(record).tolist() == expected.exit.tolist()
    with pytest.raises(ValueError, match="precision='no', but the model's weights are bf16; leave precision out"):
        dx.infer(model, images, policy, precision="no")

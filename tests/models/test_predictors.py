"""Predictors: every statistic against an independent re-derivation, laws of all, and their forms for inference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from devices import Operations
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from predictor_input import GRID, PREFIX, B, C, D, N, made, tokens
from small_model import made as made_model
from small_model import pictures
from tiny import tiny_config
from torch import Tensor, nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.config import ModelConfig
from dmpo_explore.models import BYPASSES, count_flops
from dmpo_explore.models.predictors import (
    NORMALISATIONS,
    PREDICTORS,
    CovariancePredictor,
    LinearPredictor,
    MomentPredictor,
    PreparedCovariance,
    cast_products,
    covariance,
    cross_moments,
    newton_schulz,
    prepare,
    root_of_covariance,
    signed_sqrt,
    upper_triangle,
)
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.training.accelerator import frozen_in


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


# --- linear ---


@pytest.mark.parametrize(("read", "prefix"), [("cls", PREFIX), ("mean", PREFIX), ("both", PREFIX), ("mean", 0)])
def test_linear_reads(read: str, prefix: int) -> None:
    x, predictor = tokens(), LinearPredictor(D, C, prefix, read)
    cls, mean = x[:, 0], x[:, prefix:].mean(1)
    vector = {"cls": cls, "mean": mean, "both": torch.cat((cls, mean), 1)}[read]
    torch.testing.assert_close(predictor(x), vector @ predictor.fc.weight.T + predictor.fc.bias)


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
    ("width", "how", "channels", "vector"),
    [
        (96, {}, 64, 27), (192, {}, 128, 147), (384, {}, 256, 675), (768, {}, 512, 2883), (1024, {}, 680, 5043),
        (96, {"read": "both", "heads": 2, "channels": 40}, 40, 1 * 4 * 4),
    ],
)  # fmt: skip
def test_moment_sizes_follow_the_width(width: int, how: dict[str, Any], channels: int, vector: int) -> None:
    predictor = MomentPredictor(width, C, GRID, PREFIX, **how)
    assert predictor.reduce.out_features == channels and predictor.second.in_features == vector
    assert predictor(tokens(width=width)).shape == (B, C)
    assert predictor.statistics(tokens(width=width)).shape == (B, vector)


# --- bad input ---


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: MomentPredictor(D, C, (1, 1), PREFIX), "fewer than 2 patches"),
        (lambda: CovariancePredictor(D, C, (1, 1), PREFIX), "fewer than 2 patches"),
        (lambda: MomentPredictor(95, C, GRID, PREFIX), r"heads are 15 wide \(trunk width 95, 4 heads\) and need 16"),
        (lambda: MomentPredictor(D, C, GRID, PREFIX, heads=1), "heads=1 must be at least 2"),
        (lambda: LinearPredictor(D, C, PREFIX, "class"), r"unknown read 'class'.*both, cls, mean"),
        (
            lambda: CovariancePredictor(D, C, GRID, PREFIX, normalisation="log"),
            r"unknown normalisation 'log'.*isqrt, sqrt",
        ),
    ],
)
def test_what_does_not_fit_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


SECOND_ORDER: list[tuple[type[Any], dict[str, Any]]] = [
    (MomentPredictor, {}),
    (CovariancePredictor, {"channels": 10}),
    (CovariancePredictor, {"channels": 10, "normalisation": "isqrt"}),
]


@pytest.mark.parametrize(
    ("kind", "arguments"), [*SECOND_ORDER, (MomentPredictor, {"heads": 2, "channels": 40, "read": "both"})]
)
def test_statistics_read_patches_only_and_no_order_and_keep_to_their_type(
    kind: type[Any], arguments: dict[str, Any]
) -> None:
    predictor, x = made(kind, **arguments), tokens()
    before, exact = predictor.statistics(x), predictor(x)
    changed = x.clone()
    changed[:, :PREFIX] = 5
    assert torch.equal(predictor.statistics(changed), before)
    shuffled = torch.cat((x[:, :PREFIX], x[:, PREFIX:].flip(1)), dim=1)
    torch.testing.assert_close(predictor.statistics(shuffled), before, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(predictor(x[1:2]), exact[1:2], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = predictor(x)
        F.cross_entropy(logits, torch.arange(B)).backward()
    assert logits.dtype == torch.bfloat16 and logits.shape == (B, C)
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in predictor.parameters())
    assert predictor.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


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


@torch.no_grad()
def test_moment_reads_the_trunk_before_bypass_and_norm() -> None:
    """In the model and in the stage alone."""
    model: Any = made_model(backbone="vit_tiny_patch16_224", exits=2, predictor="moment")
    first, images = model.stages[0], pictures()
    raw = first.trunk(model.embed(images))
    read, _ = first.bypass(raw)
    head, normed = first.predictor, first.norm(read)
    expected = (head.first(normed) + head.second(head.statistics(raw))) / 2 * first.scale
    torch.testing.assert_close(model(images)[:, 0], expected)
    torch.testing.assert_close(first.predict(raw)[0], expected)
    assert (model(images)[:, 0] - head(normed) * first.scale).abs().max() > 1e-3


VIEWS = ("view", "transpose", "t", "slice", "unsqueeze", "expand", "diagonal", "permute", "_unsafe_view", "detach")


def operations(module: nn.Module, x: Tensor) -> int:
    """How many run, views left out."""
    with torch.inference_mode(), Operations() as ran:
        module(x)
    return sum(name not in VIEWS for name in ran.names)


def trained(grid: tuple[int, int], normalisation: str = "isqrt") -> CovariancePredictor:
    torch.manual_seed(0)
    return CovariancePredictor(24, 7, grid, 1, channels=12, normalisation=normalisation)


def few_tokens(grid: tuple[int, int]) -> Tensor:
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
def test_the_logits_stay_and_fewer_operations_run(grid: tuple[int, int], precision: torch.dtype | None) -> None:
    predictor, x = trained(grid), few_tokens(grid)
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision is not None):
        before, after = predictor(x), PreparedCovariance(predictor)(x)
    assert before.dtype == after.dtype
    torch.testing.assert_close(after, before, **({} if precision is None else {"atol": 0.02, "rtol": 0.02}))
    assert operations(PreparedCovariance(predictor), x) <= 0.75 * operations(predictor, x)
    assert (count_flops(PreparedCovariance(predictor), x) < count_flops(predictor, x)) == (grid == (2, 2))


def test_one_product_more_where_tokens_are_many() -> None:
    x = torch.zeros(1, 25, 16)
    plain = count_flops(lambda x: newton_schulz(covariance(x)), x)
    assert count_flops(root_of_covariance, x) == plain + 2 * 16**3


@pytest.mark.parametrize(("normalisation", "changed"), [("sqrt", 0), ("isqrt", 2)])
def test_only_what_has_a_faster_form_is_changed(normalisation: str, changed: int) -> None:
    model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=3, normalisation=normalisation), 3).eval()
    assert [type(stage.predictor).__name__ for stage in model.stages].count("CovariancePredictor") == 2
    assert [prepare(model), prepare(model)] == [changed, 0]  # a second time none


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


@pytest.mark.slow
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

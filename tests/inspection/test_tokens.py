"""Stage tokens equal the model's own; their components and probes are those of numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_model import K, made, pictures

from dmpo_explore.inspection.tokens import (
    PatchComponents,
    StageTokens,
    half_of,
    patch_components,
    patch_means,
    principal_components,
    probe_stages,
    ridge_accuracy,
    ridge_r2,
    stage_tokens,
)
from dmpo_explore.models.dmpo import evaluating


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder", "none"])
def test_tokens_are_those_of_the_models_own_stages(bypass: str) -> None:
    model = made(bypass=bypass)
    seen = stage_tokens(model, pictures(), batch_size=3)  # two batches, one of them short
    tokens, side = model.embed(pictures()), None
    with torch.no_grad():
        for k, stage in enumerate(model.stages):
            tokens = stage.trunk(tokens)
            read, side = stage.bypass(tokens, side)
            torch.testing.assert_close(seen.trunk[k], tokens, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(seen.read[k], read, rtol=1e-5, atol=1e-5)
            assert seen.patches(k).shape == (4, stage.grid[0] * stage.grid[1], stage.width)
            assert torch.equal(seen.patches(k, "read"), seen.read[k][:, stage.prefix :])
    assert [seen.read[k] is seen.trunk[k] for k in range(K)] == [bypass == "none"] * (K - 1) + [True]
    assert not any(t.requires_grad for t in (*seen.trunk, *seen.read))


def test_the_model_is_left_as_it_was() -> None:
    model: Any = made(dropout=0.5).train()
    model.stages[0].norm.eval()  # one part in another mode than the rest
    before = [module.training for module in model.modules()]
    first, again = (stage_tokens(model, pictures()) for _ in range(2))
    assert torch.equal(first.trunk[-1], again.trunk[-1])  # no dropout
    assert [module.training for module in model.modules()] == before
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        assert not model.training
        raise RuntimeError("stop")
    assert [module.training for module in model.modules()] == before


def test_maps_are_seen_as_tokens() -> None:
    """A CNN's stages differ in width and grid, and have no class token."""
    model = made(backbone="test_efficientnet", image_size=64, tuning="none", read="mean")
    seen = stage_tokens(model, pictures(3, 64))
    for k, stage in enumerate(model.stages):
        assert seen.patches(k).shape == (3, stage.grid[0] * stage.grid[1], stage.width)
    assert len({stage.grid for stage in model.stages}) > 1
    with torch.no_grad():
        state = model.stages[0].trunk(model.embed(pictures(3, 64)))  # (B, D, h, w)
    torch.testing.assert_close(seen.patches(0)[1, seen.grids[0][1] + 2], state[1, :, 1, 2])  # row 1, column 2


def test_scores_are_projections_on_the_eigenvectors_of_the_covariance() -> None:
    tokens = np.random.default_rng(0).normal(size=(30, 8)) * np.arange(1, 9)
    scores, shares = principal_components(tokens)
    values, vectors = np.linalg.eigh(np.cov(tokens.T))
    wanted = (tokens - tokens.mean(axis=0)) @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), atol=1e-9)
    np.testing.assert_allclose(shares, values[::-1][:3] / values.sum())
    assert ((scores**3).sum(axis=0) >= 0).all()
    np.testing.assert_allclose(principal_components(-tokens)[0] ** 2, scores**2, atol=1e-9)


def test_few_or_equal_tokens_have_scores_of_zero() -> None:
    scores, shares = principal_components(np.ones((4, 5)))
    assert not scores.any() and not shares.any()
    scores, shares = principal_components([[1.0, 2.0], [3.0, 4.0]])
    assert not scores[:, 1:].round(12).any() and shares[0] == pytest.approx(1)


def stages(*patches: np.ndarray, grids: tuple[tuple[int, int], ...]) -> StageTokens:
    tokens = tuple(torch.tensor(np.concatenate([np.full((1, p.shape[1]), 9.0), p]))[None] for p in patches)
    return StageTokens(trunk=tokens, read=tokens, grids=grids, prefix=(1,) * len(patches))


def test_colours_follow_the_same_patches_from_stage_to_stage() -> None:
    random = np.random.default_rng(1)
    basis, _ = np.linalg.qr(random.normal(size=(16, 6)) - 0.5)
    basis, _ = np.linalg.qr(basis - basis.mean(axis=0))  # uncorrelated columns: the components
    first = basis * [9, 6, 4, 0.1, 0.1, 0.1]
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    weights = np.array([4, -9, 6, 0.1, 0.1, 0.1]) / [9, 6, 4, 0.1, 0.1, 0.1]  # another order, a sign turned
    one, two = patch_components(stages(first, (first * weights) @ rotation, grids=((4, 4), (4, 4))))
    for c in range(3):
        alike = np.corrcoef(one.scores[..., c].ravel(), two.scores[..., c].ravel())[0, 1]
        assert alike > 0.999
    assert one.shares.tolist() == sorted(one.shares, reverse=True) and two.shares.argmax() == 1
    small = patch_components(stages(first, first[:4], grids=((4, 4), (2, 2))))[1]
    assert small.scores.shape == (2, 2, 3)


def test_grey_is_the_mean_patch_and_each_colour_has_its_full_range() -> None:
    scores = np.zeros((2, 2, 3))
    scores[0, 0, 0], scores[1, 1, 1] = 4.0, -2.0
    rgb = PatchComponents(scores, np.ones(3)).rgb()
    assert rgb[0, 0].tolist() == [255, 128, 128] and rgb[1, 1].tolist() == [128, 0, 128] and rgb.dtype == np.uint8


RNG = np.random.default_rng(0)


def test_patch_means_are_means_of_the_pixels_under_a_patch() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    means = patch_means(images, (2, 3))
    assert means.shape == (2, 6)
    assert means[1, 5] == images[1, :, 2:4, 4:6].mean()  # row 1, column 2
    assert means[0, 1] == images[0, :, 0:2, 2:4].mean()


def test_r2_is_that_of_the_closed_form_at_a_small_penalty() -> None:
    x = RNG.normal(size=(40, 5, 4))
    y = x @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.3 * RNG.normal(size=(40, 5))
    train = half_of(40)
    fit, test = x[train].reshape(-1, 4), x[~train].reshape(-1, 4)
    mean, std = fit.mean(0), fit.std(0)
    a, target = (fit - mean) / std, y[train].ravel()
    weights = np.linalg.solve(a.T @ a + 0.1 * np.eye(4), a.T @ (target - target.mean()))
    rest = y[~train].ravel() - ((test - mean) / std @ weights + target.mean())
    expected = 1 - (rest**2).sum() / ((y[~train] - y[~train].mean()) ** 2).sum()
    assert ridge_r2(x, y, train) == pytest.approx(expected, abs=1e-3)  # the penalty chosen there is 0.1 or 1
    assert expected > 0.9


def test_noise_explains_nothing() -> None:
    """Nor do random features with almost as many columns as images, which fit the first half perfectly."""
    assert ridge_r2(RNG.normal(size=(80, 5, 30)), RNG.normal(size=(80, 5)), half_of(80)) < 0.05
    assert ridge_accuracy(RNG.normal(size=(400, 30)), RNG.integers(10, size=400), half_of(400)) < 0.25
    assert abs(ridge_accuracy(RNG.normal(size=(200, 150)), RNG.integers(2, size=200), half_of(200)) - 0.5) < 0.2


def test_halves_are_halves_and_repeat() -> None:
    assert half_of(11).sum() == 5
    assert (half_of(50, seed=3) == half_of(50, seed=3)).all()
    assert (half_of(50, seed=3) != half_of(50, seed=4)).any()


def test_a_models_tokens_can_be_probed() -> None:
    table = probe_stages(stage_tokens(made(), pictures(24)), pictures(24), np.arange(24) % 2, seed=1)
    assert len(table) == 6
    assert table[["low_level", "label"]].notna().all(axis=None)


X, CLASSES = np.zeros((4, 2)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: stage_tokens(made(), pictures()[:0]), r"images of shape \(0, 3, 32, 32\)"),
        (lambda: stage_tokens(made(), pictures()[0]), r"images of shape \(3, 32, 32\)"),
        (lambda: stage_tokens(made(), pictures(1)).patches(0, "side"), "source='side'"),
        (lambda: principal_components([1.0, 2.0, 3.0]), r"shape \(3,\) must be \(N, D\)"),
        (lambda: ridge_accuracy(X, CLASSES, np.ones(4, bool)), "only one kind"),
        (lambda: ridge_accuracy(X, CLASSES, half_of(3)), r"features \(4, 2\), targets \(4,\) and a mask \(3,\)"),
        (lambda: ridge_accuracy(X, CLASSES, np.array([0, 1, 2, 3])), "must share B"),  # rows, not a mask
    ],
)
def test_wrong_arguments_are_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_classes_that_lie_apart_are_found() -> None:
    labels = np.arange(60) % 3
    x = np.eye(3)[labels] + 0.05 * RNG.normal(size=(60, 3))
    assert ridge_accuracy(x, labels, half_of(60)) == 1.0


def test_a_table_tells_trunk_from_read() -> None:
    """Made up: the trunk holds the patch mean, the bypass adds the label."""
    n, labels = 80, np.arange(80) % 4
    torch.manual_seed(0)
    images = torch.randn(n, 3, 4, 4)
    trunk = torch.cat([torch.randn(n, 1, 5), torch.zeros(n, 4, 5)], dim=1)  # a class token of noise comes first
    trunk[:, 1:, 0] = patch_means(images, (2, 2))
    read = trunk.clone()
    read[:, 1:, 1:] = torch.eye(4)[labels][:, None]
    table = probe_stages(StageTokens((trunk, trunk), (read, trunk), ((2, 2),) * 2, (1, 1)), images, labels)
    assert list(table.columns) == ["exit", "source", "low_level", "label"]
    assert list(table["exit"]) == [1, 1, 2, 2]
    assert list(table["source"]) == ["trunk", "read"] * 2
    assert (table["low_level"] > 0.999).all()
    assert list(table["label"] == 1.0) == [False, True, False, False]
    assert table["label"][0] < 0.6
    assert table["label"][2] == table["label"][3]

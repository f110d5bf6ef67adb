"""Ridge probes equal closed forms on made-up tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_model import made, pictures

from dmpo_explore.inspection.tokens import (
    StageTokens,
    half_of,
    patch_means,
    probe_stages,
    ridge_accuracy,
    ridge_r2,
    stage_tokens,
)

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
    train = half_of(80)
    assert ridge_r2(RNG.normal(size=(80, 5, 30)), RNG.normal(size=(80, 5)), train) < 0.05
    chance = ridge_accuracy(RNG.normal(size=(400, 30)), RNG.integers(10, size=400), half_of(400))
    assert chance < 0.25


def test_classes_that_lie_apart_are_found() -> None:
    labels = np.arange(60) % 3
    x = np.eye(3)[labels] + 0.05 * RNG.normal(size=(60, 3))
    assert ridge_accuracy(x, labels, half_of(60)) == 1.0


def test_overfitting_does_not_count() -> None:
    """Random features with as many columns as images fit the first half perfectly and say nothing of the second."""
    x, labels = RNG.normal(size=(200, 150)), RNG.integers(2, size=200)
    assert abs(ridge_accuracy(x, labels, half_of(200)) - 0.5) < 0.2


def test_halves_are_halves_and_repeat() -> None:
    assert half_of(11).sum() == 5
    assert (half_of(50, seed=3) == half_of(50, seed=3)).all()
    assert (half_of(50, seed=3) != half_of(50, seed=4)).any()


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


def test_a_models_tokens_can_be_probed() -> None:
    table = probe_stages(stage_tokens(made(), pictures(24)), pictures(24), np.arange(24) % 2, seed=1)
    assert len(table) == 6
    assert table[["low_level", "label"]].notna().all(axis=None)


def test_wrong_arguments_are_refused() -> None:
    x, labels = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="only one kind"):
        ridge_accuracy(x, labels, np.ones(4, bool))
    with pytest.raises(ValueError, match=r"features \(4, 2\), targets \(4,\) and a mask \(3,\)"):
        ridge_accuracy(x, labels, half_of(3))
    with pytest.raises(ValueError, match="must share B"):
        ridge_accuracy(x, labels, np.array([0, 1, 2, 3]))  # rows, not a mask

"""Principal components of patch tokens: numpy's own, matched from stage to stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmpo_explore.inspection.tokens import PatchComponents, StageTokens, patch_components, principal_components


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
    with pytest.raises(ValueError, match=r"shape \(3,\) must be \(N, D\)"):
        principal_components([1.0, 2.0, 3.0])


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

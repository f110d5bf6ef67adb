"""The embedding: principal components as scikit-learn's, each exit turned onto the one before."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from dmpo_explore.records import writer as embedding
from dmpo_explore.records.writer import feature_embedding


def features(n: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 3, 12)) * np.linspace(3, 0.2, 12) + 5).astype(np.float16)


def distances(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, None].astype(float) - points[None].astype(float), axis=2))


def test_each_exit_is_its_pca_up_to_rotation_and_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    given = features()
    monkeypatch.setattr(embedding, "PIECE", 64)  # several pieces, the last one short
    found = feature_embedding(given)
    assert found.shape == (300, 3, 2) and found.dtype == np.float16 and np.abs(found).max() == 100
    for k in range(3):
        own, wanted = distances(found[:, k]), distances(PCA(2).fit_transform(given[:, k].astype(float)))
        assert np.abs(own / own.max() - wanted / wanted.max()).max() < 2e-3


def test_the_first_map_points_the_same_way_on_every_machine() -> None:
    for seed in range(5):
        first = feature_embedding(features(seed=seed))[:, 0].astype(float)
        assert (first**3).sum(axis=0).min() >= 0  # a sign is free in every component


def test_an_exit_that_is_the_one_before_turned_keeps_every_image_in_its_place() -> None:
    first = features()[:, 0].astype(float)
    turned = first @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    found = feature_embedding(np.stack([first, turned], axis=1)).astype(float)
    assert np.abs(found[:, 0] - found[:, 1]).max() < 0.2  # of 100


def test_few_images_and_one_feature_have_an_embedding_too() -> None:
    assert feature_embedding(np.ones((1, 2, 5), np.float16)).tolist() == [[[0, 0], [0, 0]]]
    assert feature_embedding(np.arange(3.0)[:, None, None])[:, 0].tolist() == [[-100, 0], [0, 0], [100, 0]]
    with pytest.raises(ValueError, match="features of shape"):
        feature_embedding(np.zeros((0, 2, 5)))

"""Incorrect answers and key numbers of 01_the_conflict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import dmpo_explore as dx
from dmpo_explore.course import small_cnn


def always_projected(first: Tensor, second: Tensor) -> Tensor:
    """Projects where nothing conflicts too."""
    return first - first @ second / second.dot(second) * second


def numbers() -> dict[str, float]:
    """The notebook's key numbers, computed again."""
    runs = {name: dx.load_run(name) for name in ("fashion", "fashion-naive", "fashion-single")}
    accuracy = {name: run.record("test").correct.mean(axis=0) for name, run in runs.items()}
    return {
        "naive_exit_1": float(accuracy["fashion-naive"][0]),
        "dmpo_exit_1": float(accuracy["fashion"][0]),
        "naive_last": float(accuracy["fashion-naive"][-1]),
        "single_last": float(accuracy["fashion-single"][0]),
    }


def only_its_own_branch(n_exits: int, stage: int) -> list[float]:
    """Forgets the branches on the way."""
    return [1 / (n_exits - exit + 1) if exit >= stage else 0.0 for exit in range(1, n_exits + 1)]


def fitted_on_all(features: Any, labels: Any, fitted: Any, penalty: float) -> float:
    """Fitted on the images that test it, too."""
    return float(
        make_pipeline(StandardScaler(), RidgeClassifier(penalty))
        .fit(features, labels)
        .score(features[~fitted], labels[~fitted])
    )


INCORRECT = {1: only_its_own_branch, 2: always_projected, 3: fitted_on_all}


class Detached(small_cnn.EarlyExitCNN):
    """Its exits read their stages, but the trunk learns nothing from them."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) → (B, K, 10)."""
        means: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean(dim=(2, 3)).detach())
        return torch.stack([exit(means[k]) for exit, k in zip(self.exits, self.at, strict=True)], dim=1)


class Averaged(small_cnn.EarlyExitCNN):
    """The loss is the mean over the exits, not their sum."""

    def loss(self, x: Tensor, labels: Tensor, weights: Sequence[float]) -> Tensor:
        """Σ λ_k ℓ_k / K."""
        return super().loss(x, labels, weights) / len(self.at)


BUILD_INCORRECT, ALSO_INCORRECT = Averaged, Detached

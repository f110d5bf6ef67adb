"""Answers and key numbers of 01_the_conflict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import dmpo_explore as dx
from dmpo_explore.course import small_cnn
from dmpo_explore.models.dmpo import branch


def surgery(first: Tensor, second: Tensor) -> Tensor:
    """PCGrad's projection."""
    return first - torch.clamp(first @ second / second.dot(second), max=0) * second


def always_projected(first: Tensor, second: Tensor) -> Tensor:
    """Projects where nothing conflicts too."""
    return first - first @ second / second.dot(second) * second


def numbers() -> dict[str, float]:
    """The notebook's key numbers, computed again."""
    runs = {name: dx.load_run(name) for name in ("demo", "demo-naive", "demo-single")}
    accuracy = {name: run.record("test").correct.mean(axis=0) for name, run in runs.items()}
    return {
        "naive_exit_1": float(accuracy["demo-naive"][0]),
        "dmpo_exit_1": float(accuracy["demo"][0]),
        "naive_last": float(accuracy["demo-naive"][-1]),
        "single_last": float(accuracy["demo-single"][0]),
    }


def equilibrium(n_exits: int, stage: int) -> list[float]:
    """The factors with which gradients pass the library's own branches."""
    weight = state = torch.ones((), dtype=torch.float64, requires_grad=True)
    factors = [0.0] * (stage - 1)
    for exit in range(stage, n_exits + 1):
        read, state = branch(state, n_exits - exit + 1)
        factors.append(float(torch.autograd.grad(read, weight, retain_graph=True)[0]))
    return factors


def only_its_own_branch(n_exits: int, stage: int) -> list[float]:
    """Forgets the branches on the way."""
    return [1 / (n_exits - exit + 1) if exit >= stage else 0.0 for exit in range(1, n_exits + 1)]


def ridge(features: Any, labels: Any, fitted: Any, penalty: float) -> float:
    """A ridge probe by an augmented least-squares problem."""
    scale = features[fitted].std(axis=0)
    x = (features - features[fitted].mean(axis=0)) / scale
    classes = np.unique(labels)
    y = np.eye(labels.max() + 1)[labels][:, classes]
    rows = np.concatenate((x[fitted], np.sqrt(penalty) * np.eye(x.shape[1])))
    mean = y[fitted].mean(axis=0)
    targets = np.concatenate((y[fitted] - mean, np.zeros((x.shape[1], len(classes)))))
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return float((classes[(x[~fitted] @ weights + mean).argmax(axis=1)] == labels[~fitted]).mean())


def fitted_on_all(features: Any, labels: Any, fitted: Any, penalty: float) -> float:
    """Fitted on the images that test it, too."""
    return float(
        make_pipeline(StandardScaler(), RidgeClassifier(penalty))
        .fit(features, labels)
        .score(features[~fitted], labels[~fitted])
    )


def tested_on_all(features: Any, labels: Any, fitted: Any, penalty: float) -> float:
    """Tested on the images that it was fitted on, too."""
    probe = make_pipeline(StandardScaler(), RidgeClassifier(penalty)).fit(features[fitted], labels[fitted])
    return float(probe.score(features, labels))


ANSWERS = {1: equilibrium, 2: surgery, 3: ridge}
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


BUILD, BUILD_INCORRECT, ALSO_INCORRECT = small_cnn.EarlyExitCNN, Averaged, Detached

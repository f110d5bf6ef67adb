"""A search space that trains in seconds on scikit-learn's digits, the points of a search, and a made-up trial."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny import MODEL, TRAINING

from dmpo_explore.search.goal import LearningCurve
from dmpo_explore.search.space import SearchSpace
from dmpo_explore.search.study import SearchFront

FIXED: dict[str, Any] = {"data.name": "digits", "train_size": 100} | MODEL | TRAINING | {"flip": False}


TRIED: dict[str, Any] = {
    "exits": [2, 3],
    "bypass": ["none", "conv"],
    "training.predictor_lr": {"low": 1e-3, "high": 3e-2, "log": True},
}

SPACE = SearchSpace.from_dict(
    {
        "space": {
            "exits": [2, [1, 3]],
            "rank": {"low": 4, "high": 32, "log": True},
            "channels": {"low": 8, "high": 64, "step": 8},
            "dropout": {"low": 0.0, "high": 0.5},
            "phase_ratio": {"low": 0.2, "high": 0.8, "step": 0.2},
        }
    }
)


def make_space(**fixed: Any) -> SearchSpace:
    values = {key: value for key, value in (FIXED | fixed).items() if key not in ("exits", "predictor_lr")}
    return SearchSpace.from_dict({"fixed": values, "space": TRIED, "goal": {"max_flops": 2.0}})


def points(front: SearchFront) -> list[tuple[int, int, float, float]]:
    return [
        (row["trial"], row["epoch"], accuracy, flops)
        for row in front.epochs.to_dict("records")
        for accuracy, flops in zip(row["accuracy"], row["flops_fraction"], strict=True)
    ]


PATIENCE = 5


def trial(
    number: int, accuracies: list[float], flops: float = 0.3, planned: int = 4, second: float = 1.0
) -> LearningCurve:
    """One operating point an epoch."""
    epochs = {e: np.array([[a, flops, e * second]]) for e, a in enumerate(accuracies, start=1)}
    return LearningCurve(number, {"x": number}, planned, epochs)

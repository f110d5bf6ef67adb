"""Whether a target is kept on the images on screen: judged by the numbers as they are written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.services import policies

import dmpo_explore as dx


def kept(target: dx.Target, early_errors: int = 0, **numbers: Any) -> str:
    """`policies.kept` of a hundred images with these numbers."""
    correct = np.arange(100) >= early_errors
    outcome = SimpleNamespace(
        record=SimpleNamespace(correct=np.ones((100, 1), bool)),
        correct=correct,
        summary=lambda: {
            "flops_fraction": 0.5, "accuracy_drop": 0.0, "accuracy": 0.9, "exit_accuracy": [0.9],
            "too_early": early_errors / 100, **numbers,
        },
    )  # fmt: skip
    return policies.kept(SimpleNamespace(split="test", outcome=outcome), target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "numbers", "said"),
    [
        (dx.Target.flops(0.3), {"flops_fraction": 0.3004}, "kept: 30.0% compute"),
        (dx.Target.flops(0.3), {"flops_fraction": 0.3011}, "missed: 30.1% compute"),
        (dx.Target.accuracy_drop(0.0), {"accuracy_drop": 4e-5}, "kept: level with the last exit"),
        (dx.Target.near_best(0.01), {"accuracy": 0.885}, "missed: 1.50 points below the best exit"),
    ],
)
def test_a_target_is_judged_by_the_number_that_is_shown(
    target: dx.Target, numbers: dict[str, float], said: str
) -> None:
    assert said in kept(target, **numbers)


def test_a_bound_on_risk_is_missed_where_chance_does_not_explain_it() -> None:
    target = dx.Target.risk("too_early", epsilon=0.01)
    assert "exceeded, but within chance: 2.00% early-exit errors (95%: 0.55% to 7.00%)" in kept(target, early_errors=2)
    assert "missed: 20.00%" in kept(target, early_errors=20)

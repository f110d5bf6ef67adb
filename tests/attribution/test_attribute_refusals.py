"""Methods that mislead, wrong arguments and wrong images are refused; a large delta warns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_model import C, image, made
from torch import Tensor

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.methods import REFUSED


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("deep_lift", "LayerNorm"),
        ("deep_lift_shap", "LayerNorm"),
        ("lrp", "no rule for LayerNorm"),
        ("layer_grad_cam", "the tokens are averaged away"),
    ],
)
def test_misleading_methods_are_refused_with_the_reason(method: str, reason: str) -> None:
    assert method in REFUSED
    with pytest.raises(ValueError, match=f"{method}.*refused.*{reason}"):
        attribute(made(), image(), 0, method=method)
    with pytest.raises(ValueError, match="refused"):
        compare_exits(made(), image(), method=method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exit": 3}, "exit=3.*exits 0 to 2"),
        ({"exit": -1}, "exit=-1"),
        ({"target": C}, f"target={C}.*classes 0 to {C - 1}"),
        ({"method": "gradcam"}, "unknown method 'gradcam'.*integrated_gradients"),
        ({"steps": 16}, "steps=16 must be at least 50"),
        ({"baseline": "white"}, "unknown baseline 'white'.*black, blur, mean"),
        ({"baseline": torch.zeros(2, 3, 32, 32)}, "stack of 2 baselines"),
        ({"layer": 2}, "layer=2 is for layer_integrated_gradients"),
        ({"layer": 3, "method": "token_grad_cam"}, "layer=3 is after exit 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute(made(), image(), **{"exit": 0, **arguments})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 48, 48), r"shape \(3, 48, 48\)"),
        (torch.zeros(2, 3, 32, 32), r"shape \(2, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 32, 32), torch.nan), "NaN"),
    ],
)
def test_a_wrong_image_is_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute(made(), wrong, 0)


def test_exits_to_compare_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        compare_exits(made(), image(), exits=[1, 0])


def test_a_large_delta_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.attribution.exit_model.DELTA_BOUND", 1e-7)
    with pytest.warns(UserWarning, match=r"exit 1: convergence delta .* after \d+ steps, above the bound"):
        found = attribute(made(), image(), 0)
    assert found.steps in (64, 128, 256)  # doubled twice, the best is kept

"""A new bypass or predictor is one class and one line in its registry: the factory names no kind."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dmpo_explore.config import ModelConfig
from dmpo_explore.models import factory
from dmpo_explore.models.backbone import ExitShape
from dmpo_explore.models.bypass import BYPASSES, Bypass
from dmpo_explore.models.factory import build_model
from dmpo_explore.models.predictors import PREDICTORS, Predictor

CONFIG = ModelConfig("test_vit", "random", 32, exits=3)


class GainBypass(Bypass):
    """x → gain · x with one number per channel; needs a class token, for the sake of the example."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.gain = nn.Parameter(torch.ones(width))

    @classmethod
    def check(cls, exits: Sequence[ExitShape], read: str) -> None:
        """Raise ValueError without a class token."""
        if not all(shape.class_token for shape in exits):
            raise ValueError("bypass='gain' needs a class token")

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D), None."""
        return x * self.gain, None


class MaxPredictor(Predictor):
    """A linear layer on the maximum over the patch tokens."""

    def __init__(self, width: int, n_classes: int, grid: tuple[int, int], prefix: int, read: str) -> None:
        super().__init__()
        self.prefix, self.fc = prefix, nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        logits: Tensor = self.fc(x[:, self.prefix :].amax(dim=1))
        return logits


def test_a_new_bypass_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BYPASSES, "gain", GainBypass)
    model = build_model(replace(CONFIG, bypass="gain"), 4)
    assert [type(stage.bypass).__name__ for stage in model.stages] == ["GainBypass", "GainBypass", "NoBypass"]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="bypass='gain' needs a class token"):
        build_model(replace(CONFIG, backbone="test_efficientnet", image_size=64, bypass="gain"), 4)


def test_a_new_predictor_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PREDICTORS, "max", MaxPredictor)
    model = build_model(replace(CONFIG, predictor="max"), 4)
    kinds = [type(stage.predictor).__name__ for stage in model.stages]
    assert kinds == ["MaxPredictor", "MaxPredictor", "LinearPredictor"]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3, 4)


def test_the_factory_compares_no_name_of_a_kind() -> None:
    text = Path(factory.__file__).read_text(encoding="utf-8")
    names = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert not names & ({*BYPASSES, *PREDICTORS} - {"none", "linear"})  # the reference model is plain by definition

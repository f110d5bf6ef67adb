"""Weights that a schedule plans, as the loop reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from two_exits import CONFIG, make_model

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import build_model
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts, PlannedWeights
from dmpo_explore.training.schedules import loss_weights


def test_an_epoch_has_the_weights_of_its_schedule() -> None:
    config = replace(CONFIG, epochs=3, schedule="switch", phase_ratio=0.4)
    joined = JoinedParts([], make_model(), config, 2, make_accelerator(config, "cpu"), 8, None)
    assert isinstance(joined.weighing, PlannedWeights)
    for epoch in range(3):
        joined.before_epoch(epoch)
        planned = loss_weights("switch", epoch, 3, 2, phase_ratio=0.4)
        assert joined.mean_weights() == planned
        assert joined.weighing.weights().tolist() == pytest.approx(planned)
    assert joined.state_dict() == {}


def test_a_model_knows_the_depths_of_its_exits() -> None:
    model = build_model(ModelConfig("test_vit", "random", 32, exits=(1, 2, 5)), 3)
    config = replace(CONFIG, epochs=3, schedule="linear-by-depth")
    joined = JoinedParts([], model, config, 3, make_accelerator(config, "cpu"), 8, None)
    joined.before_epoch(0)
    assert joined.mean_weights() == loss_weights("linear-by-depth", 0, 3, 3, depths=(0.2, 0.4, 1.0))
    assert joined.mean_weights() != loss_weights("linear-by-depth", 0, 3, 3)

"""Defaults follow the backbone, and what was chosen stays."""

from __future__ import annotations

import pytest

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.defaults import MOST, fitted
from dmpo_explore.models.flops import config_flops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tinynet_e", "test_mambaout", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_last_exit_costs_little_more_than_the_plain_backbone(name: str) -> None:
    config = fitted(ModelConfig(name, "random"))
    flops = config_flops(config, 10)
    assert flops.cumulative[-1] <= MOST * flops.reference
    assert flops.cumulative[0] <= 0.5 * flops.reference


def test_the_last_exits_own_predictor_counts() -> None:
    flops = config_flops(fitted(ModelConfig("tinynet_e", "random", last_predictor="covariance")), 10)
    assert flops.cumulative[-1] <= MOST * flops.reference


def test_what_was_chosen_stays() -> None:
    config = ModelConfig("vit_tiny_patch16_224", "random", 96, channels=40)
    assert fitted(config) == config
    kept = fitted(ModelConfig("vit_tiny_patch16_224", "random", 64), ["channels"])
    assert (kept.channels, kept.bypass_width) == (48, 64)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "tf_efficientnet_lite0"])
def test_the_backbones_of_our_studies_keep_their_defaults(name: str) -> None:
    assert fitted(ModelConfig(name)) == ModelConfig(name)


def test_exits_of_a_recipe_end_with_the_backbone() -> None:
    exits = (3, 4, 5, 6, 8, 12)
    assert fitted(ModelConfig("tf_efficientnet_lite0", exits=exits), blocks=12).exits == (4, 5, 7, 8, 11, 16)
    assert fitted(ModelConfig("vit_tiny_patch16_224", exits=exits), ["exits"], blocks=8).exits == exits

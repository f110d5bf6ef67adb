"""The last and the only exit may have any bypass and predictor: a static net with the head of the early exits."""

from __future__ import annotations

from typing import Any

import pytest
from small_model import pictures

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.bypass import BYPASSES, NoBypass
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.predictors import PREDICTORS, LinearPredictor

C = 5


def small(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"backbone": "test_vit", "weights": "random", "image_size": 32, "bypass_width": 6}
    return ModelConfig(**(values | {"exits": 3, "rank": 4, "channels": 8} | changes))


@pytest.mark.slow
@pytest.mark.parametrize("exits", [(2, 5), (5,)])
@pytest.mark.parametrize(("bypass", "predictor"), [("conv", "covariance"), ("ladder", "moment"), ("mlp", "linear")])
def test_the_last_and_the_only_exit_may_have_any_bypass_and_predictor(
    exits: tuple[int, ...], bypass: str, predictor: str
) -> None:
    config = small(backbone="vit_tiny_patch16_224", exits=exits, bypass="none", predictor="linear",
                   last_bypass=bypass, last_predictor=predictor)  # fmt: skip
    model: Any = assemble(config, C)
    *early, last = model.stages
    assert type(last.bypass) is BYPASSES[bypass] and type(last.predictor) is PREDICTORS[predictor]
    assert all(type(stage.bypass) is NoBypass and type(stage.predictor) is LinearPredictor for stage in early)
    model(pictures()).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    plain = build_reference(config, C).stages
    assert all(type(stage.bypass) is NoBypass and type(stage.predictor) is LinearPredictor for stage in plain)


def test_what_does_not_fit_the_last_exit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown last_bypass 'conf'. Did you mean 'conv'\?"):
        assemble(small(last_bypass="conf"), C)
    with pytest.raises(ValueError, match="which read='mean' never reads"):
        assemble(small(exits=1, last_bypass="mlp", read="mean"), C)
    with pytest.raises(ValueError, match=r"channels=65 must lie between 1 and the trunk's width 64"):
        assemble(small(exits=1, last_predictor="covariance", channels=65), C)

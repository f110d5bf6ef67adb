"""AdamW's parameter groups and the learning rate by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
from tiny import tiny_config
from two_exits import CONFIG

from dmpo_explore.models.factory import build_model
from dmpo_explore.training.optimizer import make_optimizer, rate_factor


def test_rate_factor_warms_up_and_falls_along_half_a_cosine() -> None:
    assert [rate_factor(step, 12, 3) for step in range(3)] == [0.25, 0.5, 0.75]
    assert rate_factor(3, 12, 3) == 1.0
    assert rate_factor(6, 12, 3) == pytest.approx(0.75)  # a third of the way: (1 + cos 60°) / 2
    assert rate_factor(12, 12, 3) == pytest.approx(0.0)
    assert rate_factor(0, 10, 0) == 1.0
    assert rate_factor(5, 10, 0) == pytest.approx(0.5)
    rates = [rate_factor(step, 40, 7.5) for step in range(41)]
    assert max(rates) == rates[8] and all(0 <= rate <= 1 for rate in rates)
    assert rate_factor(0, 1, 5.0) == pytest.approx(1 / 6)  # a warm-up longer than the training


def test_every_trainable_weight_is_in_the_group_of_its_part() -> None:
    model = build_model(tiny_config(model={"tuning": "adapter"}).model, 10)  # whose trunk has biases too
    config = replace(CONFIG, tuning_lr=3e-4, predictor_lr=5e-3, weight_decay=0.1)
    groups = make_optimizer(model, config).param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(found) == sum(len(group["params"]) for group in groups) == len(trainable)
    for name, weight in trainable.items():
        rate = 3e-4 if ".trunk." in name else 5e-3
        assert found[id(weight)] == (rate, 0.1 if weight.ndim > 1 else 0.0), name
    assert {found[id(p)] for p in trainable.values()} == {(3e-4, 0.1), (3e-4, 0.0), (5e-3, 0.1), (5e-3, 0.0)}


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit3", "test_efficientnet"])
def test_full_tuning_does_not_decay_tokens_and_positions(backbone: str) -> None:
    shape = {"exits": 1, "image_size": 64} if backbone == "test_efficientnet" else {}
    model = build_model(tiny_config(model={"tuning": "full", "backbone": backbone, **shape}).model, 10)
    groups = make_optimizer(model, replace(CONFIG, weight_decay=0.1)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters() if p.ndim > 1}
    without = {name.rpartition(".")[2] for name, value in found.items() if value == 0}
    assert "weight" not in without and ("pos_embed" in without) == backbone.startswith("test_vit")
    assert any(name.endswith("weight") and value == 0.1 for name, value in found.items())


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "deit_tiny_distilled_patch16_224",
        "swin_tiny_patch4_window7_224",
        "convnext_atto",
        "tf_efficientnet_lite0",
        "resnet18",
        "swinv2_tiny_window8_256",
    ],
)
def test_timm_names_the_same_parameters(name: str) -> None:
    """If this fails, timm has changed what it leaves without weight decay."""
    model = timm.create_model(name, device="meta")
    excluded = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    bare = {full for full, weight in model.named_parameters() if weight.ndim > 1 and not full.endswith("weight")}
    names = {full for full in bare if full in excluded or full.rpartition(".")[2] in excluded}
    assert bare - {"reg_token"} <= names <= bare  # timm 1.0.22 left out reg_token

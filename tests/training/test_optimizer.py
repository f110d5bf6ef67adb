"""AdamW's parameter groups, the learning rate by step, and that of a second phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from tiny import tiny_config
from two_exits import CONFIG, make_model

from dmpo_explore import TrainingConfig, build_model, train
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts
from dmpo_explore.training.optimizer import SecondPhase, make_optimizer, make_schedule, rate_factor


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "factor"),
    [
        (0, 12, 3, 0.25), (1, 12, 3, 0.5), (2, 12, 3, 0.75), (3, 12, 3, 1),
        (6, 12, 3, 0.75),  # a third of the way: (1 + cos 60°) / 2
        (12, 12, 3, 0), (0, 10, 0, 1), (5, 10, 0, 0.5),
        (0, 1, 5.0, 1 / 6),  # a warm-up longer than the training
    ],
)  # fmt: skip
def test_rate_factor_warms_up_and_falls_along_half_a_cosine(
    step: int, steps: int, warmup: float, factor: float
) -> None:
    assert rate_factor(step, steps, warmup) == pytest.approx(factor)
    rates = [rate_factor(step, 40, 7.5) for step in range(41)]
    assert max(rates) == rates[8] and all(0 <= rate <= 1 for rate in rates)


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


def rates(config: TrainingConfig, steps: int = 4) -> dict[str, list[float]]:
    """Learning rate of trunk and exits over its peak, step by step."""
    model = torch.nn.ModuleDict({"embed": torch.nn.Linear(6, 6), "exits": make_model()})
    config = replace(config, tuning_lr=1.0, predictor_lr=1.0)
    optimizer = make_optimizer(model, config)
    joined = JoinedParts([SecondPhase()], model, config, 2, make_accelerator(config, "cpu"), steps, None)
    schedule = make_schedule(optimizer, config, steps, rate=joined.rate)
    seen: dict[str, list[float]] = {"trunk": [], "exits": []}
    for _ in range(config.epochs * steps):
        for group in optimizer.param_groups[::2]:  # the others are those without weight decay
            seen[group["of"]].append(group["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(("schedule", "first"), [("linear", 6), ("switch", 5), ("early-only", 0)])
def test_the_exits_keep_their_peak_and_the_trunk_decays(schedule: str, first: int) -> None:
    config = replace(CONFIG, epochs=10, schedule=schedule, warmup_epochs=1)
    planned = [rate_factor(step, 40, 4) for step in range(40)]
    seen = rates(config)
    full = max(4 * first, 4)  # not before the warm-up has ended
    assert seen["trunk"] == pytest.approx(planned)
    assert seen["exits"] == pytest.approx(planned[:full] + [1.0] * (40 - full))


@pytest.mark.parametrize("schedule", ["uniform", "deep-only"])
def test_a_schedule_without_a_second_phase_is_refused(schedule: Any) -> None:
    with pytest.raises(ValueError, match=f"for a second phase.*schedule='{schedule}' has none in 2 epochs"):
        rates(replace(CONFIG, schedule=schedule))


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_a_run_with_it_differs_from_one_without_in_its_second_phase() -> None:
    config = tiny_config(epochs=3, schedule_rate="full", schedule="switch", phase_ratio=0.3)
    assert "schedule_rate" not in tiny_config().to_json()
    whole, plain = (
        train(config.updated({"training.schedule_rate": rate}), rate, device="cpu").history()["loss_1"]
        for rate in ("full", "cosine")
    )
    assert whole[0] == plain[0] and whole[2] != plain[2]

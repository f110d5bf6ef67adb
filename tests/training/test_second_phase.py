"""The second phase: the exits' learning rate stays at its peak once exit 1 outweighs the last exit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from tiny_training import same_history, stop_after
from two_exits import CONFIG, make_model

from dmpo_explore.config import Config, TrainingConfig
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts
from dmpo_explore.training.optimizer import SecondPhase, make_optimizer, make_schedule, rate_factor
from dmpo_explore.training.train import train


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


def test_a_schedule_without_a_second_phase_is_refused() -> None:
    for schedule in ("uniform", "deep-only"):
        with pytest.raises(ValueError, match=f"for a second phase.*schedule='{schedule}' has none in 2 epochs"):
            rates(replace(CONFIG, schedule=schedule))


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_a_run_with_it_resumes_bit_by_bit_and_differs_from_one_without() -> None:
    config = tiny_config(epochs=3, schedule_rate="full", schedule="switch", phase_ratio=0.3)
    assert Config.from_json(config.to_json()) == config and "schedule_rate" not in tiny_config().to_json()
    whole = train(config, "whole", device="cpu")
    stop_after(2, config)
    same_history(train(config, "run", resume=True, device="cpu"), whole)
    plain = train(config.updated({"training.schedule_rate": "cosine"}), "plain", device="cpu").history()
    first, last = ((load_run("whole").history()["loss_1"] - plain["loss_1"]).abs().iloc[row] for row in (0, 2))
    assert first == 0 and last > 0

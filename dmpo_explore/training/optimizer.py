"""AdamW's parameter groups, the rate by step, the exits' own rate in the second phase, what resumes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ..config import TrainingConfig
from .parts import TrainingContext, TrainingPart, planned_weights
from .schedules import Depths

DECAY = ("weight", "prompts")  # ends of the names of matrices with weight decay: not tokens, positions, tables, scales


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, in groups by learning rate and weight decay.

    Backbone and its tuning (``tuning_lr``) and the exits (``predictor_lr``) have learning rates of their own. Biases,
    norms, scales, tokens, positions and tables have no weight decay.

    Example:
        >>> import dmpo_explore as dx
        >>> model = torch.nn.Linear(3, 2)
        >>> [group["weight_decay"] for group in make_optimizer(model, dx.TrainingConfig(weight_decay=0.1)).param_groups]
        [0.1, 0.0]
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            tuned = re.match(r"(embed|stages\.\d+\.trunk)\.", name) is not None
            decays = weight.ndim > 1 and name.endswith(DECAY)
            groups.setdefault((tuned, decays), []).append(weight)
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": config.tuning_lr if tuned else config.predictor_lr,
                "weight_decay": config.weight_decay if decays else 0.0,
                "of": "trunk" if tuned else "exits",
            }
            for (tuned, decays), weights in groups.items()
        ]
    )


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Learning rate over its peak at ``step`` of ``steps``: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def make_schedule(
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    steps: int,
    done: int = 0,
    *,
    rate: Callable[[str, float], float | None] | None = None,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of an optimizer's rates: `rate_factor`, but for groups that ``rate`` gives another one.

    It is made again and not loaded: with more epochs than were planned for, the next rate is another one.

    Args:
        steps: of an epoch. done: steps so far.
        rate: (trunk or exits, epoch with its fraction) → learning rate over its peak, or None.
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    planned = partial(rate_factor, steps=config.epochs * steps, warmup=config.warmup_epochs * steps)

    def factor(step: int, group: str) -> float:
        own = rate(group, step / steps) if rate else None
        return planned(step) if own is None else own

    factors: list[Callable[[int], float]] = [partial(factor, group=one["of"]) for one in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors, last_epoch=done - 1)


def restore(
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    scaler: Any,
    state: Mapping[str, Any],
) -> None:
    """Load what an earlier epoch left, but for the rates, which are the schedule's; the optimizer is prepared already.

    Accelerate moves everything that an optimizer holds to the device. AdamW counts its steps on the CPU: counters on a
    GPU would be waited for at every step, one by one.
    """
    optimizer.load_state_dict(state["optimizer"])
    for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])


# Second phase of a training: the exits' own parts keep their full learning rate in it, while the trunk's decays.
#
# With one cosine for both, 7 % of the summed learning rate of `linear` lies in the epochs in which the first exit
# weighs more than the last. Ours: those epochs are the second phase; bypasses, exit norms, predictors and scales have
# their peak rate there, to the end, from the end of the warm-up at the earliest.


def second_phase(config: TrainingConfig, depths: Depths) -> list[bool]:
    """Whether each epoch of a training is in its second phase; ValueError where none is.

    Args:
        depths: (K,) of the exits, see `schedules`.
    """
    planned = (planned_weights(config, depths, epoch) for epoch in range(config.epochs))
    second = [weights[0] > weights[-1] for weights in planned]
    if not any(second):
        raise ValueError(
            f"schedule_rate='full' is for a second phase, in which exit 1 weighs more than the last exit; "
            f"schedule={config.schedule!r} has none in {config.epochs} epochs"
        )
    return second


class SecondPhase(TrainingPart):
    """Full learning rate of the exits in the epochs in which the first exit weighs more than the last.

    Raises:
        ValueError: when a training begins that has no such epoch.
    """

    def begin(self, context: TrainingContext) -> None:
        """Reads the weights that the schedule plans."""
        self.second = second_phase(context.config, context.depths)
        self.warmup = context.config.warmup_epochs

    def rates(self, epoch: float) -> Mapping[str, float]:
        """The peak for the exits in the second phase."""
        now = min(int(epoch), len(self.second) - 1)  # at the last step's end an epoch is over
        return {"exits": 1.0} if self.second[now] and epoch >= self.warmup else {}

"""Learned loss weights (arXiv 2502.08808): the schedule ``learned`` and the training part that learns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import joints
from ...training.kinds import PartKind, PartSetup
from ...utils.options import check_options, option

if TYPE_CHECKING:
    from ...config import Config
    from ...training.parts import TrainingPart
    from ...training.schedules import Depths, Weights

LEARNED = "learned"  # the schedule


@dataclass(frozen=True)
class LearnedOptions:
    """How the weights are learned."""

    schedule_lr: float = option(0.05, "Learning rate of the loss weights (schedule learned).", gt=0)
    schedule_penalty: float = option(10.0, "Penalty γ of held-out images' loss, which counts 1/γ (same).", gt=0)

    def __post_init__(self) -> None:
        check_options(self)


def planned(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """1 for a single exit, which has nothing to learn.

    Raises:
        ValueError: more exits, whose weights no epoch determines.
    """
    import numpy as np

    if len(depths) > 1:
        raise ValueError(
            f"schedule {LEARNED!r}: the loss weights start equal and are learned in the training; its history has them"
        )
    return np.ones(1)


def chosen(config: Config) -> bool:
    """Whether a training is to learn its loss weights."""
    return config.training.schedule == LEARNED


def make(setup: PartSetup) -> TrainingPart | None:
    """The part, where held-out images are there to learn from."""
    from .learning import LearnedWeights, held_out_loader

    held_out, settings = setup.held_out, setup.config.training
    if not chosen(setup.config) or held_out is None:
        return None

    def batches(steps: int, processes: int) -> object:
        return held_out_loader(held_out, setup.model.preprocess, settings, steps, processes)

    how = settings.part(LearnedOptions)
    return LearnedWeights(batches, rate=how.schedule_lr, penalty=how.schedule_penalty)


joints.SCHEDULES[LEARNED] = planned
joints.TRAINING_PARTS["learned weights"] = PartKind(
    make,
    LearnedOptions,
    wants_held_out=chosen,
    learns_copy=chosen,
    timed=lambda config: ("schedule",) if chosen(config) else (),
)

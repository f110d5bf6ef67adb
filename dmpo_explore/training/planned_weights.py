"""Loss weights that the config's schedule plans for every epoch: the part that weighs the exits unless another does."""

from __future__ import annotations

import torch
from torch import Tensor

from .parts import TrainingContext, TrainingPart
from .schedules import loss_weights


class PlannedWeights(TrainingPart):
    """The weights of ``config.schedule``."""

    weighs = True

    def begin(self, context: TrainingContext) -> None:
        """Reads schedule, epochs, phase ratio and the number of exits."""
        self.context = context

    def before_epoch(self, epoch: int) -> None:
        """The epoch's weights."""
        config = self.context.config
        self.planned = loss_weights(
            config.schedule, epoch, config.epochs, self.context.n_exits, phase_ratio=config.phase_ratio
        )
        self.on_device = torch.tensor(self.planned, device=self.context.accelerator.device)

    def weights(self) -> Tensor:
        """(K,), the same at every step of an epoch."""
        return self.on_device

    def mean_weights(self) -> tuple[float, ...]:
        """The planned ones, as they are."""
        return self.planned

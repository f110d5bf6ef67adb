"""Second phase of a training: the exits' own parts keep their full learning rate in it, while the trunk's decays.

With one cosine for both, 7 % of the summed learning rate of `linear` lies in the epochs in which the first exit weighs
more than the last. Ours: those epochs are the second phase; bypasses, exit norms, predictors and scales have their peak
rate there, to the end, from the end of the warm-up at the earliest.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..config import TrainingConfig
from .parts import TrainingContext, TrainingPart, planned_weights
from .schedules import Depths


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

    Example:
        Four exits of schedule `linear` in 100 epochs: the second phase begins with the 63rd.

        >>> import dmpo_explore as dx
        >>> from unittest.mock import Mock
        >>> part, settings = SecondPhase(), dx.TrainingConfig(epochs=100)
        >>> part.begin(TrainingContext(Mock(), (0.25, 0.5, 0.75, 1.0), settings, Mock(), 8, Mock(), resumed=False))
        >>> part.rates(61.9), part.rates(62)
        ({}, {'exits': 1.0})
    """

    def begin(self, context: TrainingContext) -> None:
        """Reads the weights that the schedule plans."""
        self.second = second_phase(context.config, context.depths)
        self.warmup = context.config.warmup_epochs

    def rates(self, epoch: float) -> Mapping[str, float]:
        """The peak for the exits in the second phase."""
        now = min(int(epoch), len(self.second) - 1)  # at the last step's end an epoch is over
        return {"exits": 1.0} if self.second[now] and epoch >= self.warmup else {}

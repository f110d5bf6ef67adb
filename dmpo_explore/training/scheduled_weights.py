"""Loss weights that are planned for every epoch, as the training loop reads them.

In: a model, and an `Objective`: epoch → weights and criterion. Out: the loss of every batch. `LearnedWeights` has the
same methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from .accelerator import PreparedForward

# what a model gives, labels (b,), anchors=logits or None → the loss and the (K,) losses of the exits
Criterion = Callable[..., tuple[Tensor, Tensor]]
Objective = Callable[[int], tuple[Sequence[float], Criterion]]  # epoch, from 0 → weights of the exits and criterion


class ScheduledWeights:
    """The weights of an `Objective`.

    Attributes:
        module: what accelerate prepares. copies: the models in it; their gradients are clipped one by one.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self.module: nn.Module = PreparedForward(model)
        self.copies: tuple[nn.Module, ...] = (model,)
        self.objective = objective

    def start_epoch(self, epoch: int, prepared: nn.Module) -> None:
        """The epoch's weights; ``prepared``: ``module`` as accelerate prepared it."""
        self.planned, self.criterion = self.objective(epoch)
        self.prepared = prepared

    def losses(self, images: Tensor, labels: Tensor, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised, the weighted loss (the same here) and the losses (K,); ``more`` is the criterion's."""
        loss, parts = self.criterion(self.prepared(images), labels, **more)
        return loss, loss, parts

    def step(self) -> None:
        """Called after each optimizer step."""

    def mean_weights(self) -> tuple[float, ...]:
        """The weights of the epoch."""
        return tuple(self.planned)

    def state_dict(self) -> dict[str, Any]:
        """What a later epoch needs: nothing."""
        return {}

"""All parts of a training as one: what the loop prepares, trains with and saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..config import TrainingConfig
from ..models.dmpo import DMPO
from .accelerator import PreparedForward
from .losses import label_losses, weighted_sum
from .parts import Batch, TrainingContext, TrainingPart

LOOPS_OWN = ("epoch", "best", "optimizer", "schedule", "scaler")  # keys of a state


class PlannedWeights(TrainingPart):
    """The weights of ``config.schedule``: those of a training without another part that weighs the exits."""

    weighs = True

    def begin(self, context: TrainingContext) -> None:
        """The context knows the schedule."""
        self.context = context

    def before_epoch(self, epoch: int) -> None:
        """The epoch's weights."""
        self.planned = self.context.planned_weights(epoch)
        self.on_device = torch.tensor(self.planned, device=self.context.accelerator.device)

    def weights(self) -> Tensor:
        """(K,), the same at every step of an epoch."""
        return self.on_device

    def mean_weights(self) -> tuple[float, ...]:
        """The planned ones, as they are."""
        return self.planned


class BesideModel(nn.Module):
    """A model and the copies that parts train beside it: images and their inputs → the model's outputs, and theirs."""

    def __init__(self, model: nn.Module, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model = PreparedForward(model)
        self.copies = nn.ModuleList(map(PreparedForward, copies))

    def forward(self, images: Tensor, *inputs: Tensor) -> tuple[Any, tuple[Any, ...]]:
        """The copies first, so that each draws its random numbers before the model."""
        others = tuple(copy(given) for copy, given in zip(self.copies, inputs, strict=True))
        return self.model(images), others


class JoinedParts:
    """The parts of a training; without one that weighs the exits, the weights are those of the config's schedule.

    Args:
        state: of an earlier epoch.

    Attributes:
        module: what accelerate prepares. networks: the model, and the copies beside it.

    Raises:
        ValueError: two parts that weigh the exits or share a name; further images beside a part that is alone.
    """

    def __init__(
        self, parts: Sequence[TrainingPart], model: nn.Module, config: TrainingConfig, n_exits: int,
        accelerator: Accelerator, steps: int, state: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        weighing = [part for part in parts if part.weighs] or [PlannedWeights()]
        self.parts = [*(part for part in parts if not part.weighs), *weighing]
        self.weighing, self.config = weighing[0], config
        self._check(weighing)
        blocks = model.exits if isinstance(model, DMPO) else range(1, n_exits + 1)
        depths = tuple(block / blocks[-1] for block in blocks)
        for part in self.parts:
            saved = state.get(part.name) if state else None
            part.begin(TrainingContext(model, depths, config, accelerator, steps, self.exit_losses, saved is not None))
            if saved is not None:
                part.load_state_dict(saved)
        for part in self.parts:
            part.prepare()
        copies = {part: part.copies() for part in self.parts}
        self.beside = [(part, len(own)) for part, own in copies.items() if own]
        every = [copy for own in copies.values() for copy in own]
        self.networks: tuple[nn.Module, ...] = (model, *every)
        self.module: nn.Module = BesideModel(model, every) if every else PreparedForward(model)
        self.all_labelled = not any((images.labels < 0).any() for part in self.parts for images in part.sources())

    def _check(self, weighing: Sequence[TrainingPart]) -> None:
        if len(weighing) > 1:
            raise ValueError(f"{' and '.join(part.name for part in weighing)} both give loss weights; choose one")
        names = [part.name for part in self.parts if part.name]
        for name in names:
            if names.count(name) > 1 or name in LOOPS_OWN:
                raise ValueError(f"training part {name!r}: another part, or the loop itself, has this name")
        adding = [part for part in self.parts if part.sources()]
        for part in self.parts:
            if part.alone and (others := [other for other in adding if other is not part]):
                name = others[0].name or type(others[0]).__name__
                raise ValueError(f"training part {name!r} adds images that {part.name!r} does not know; leave one out")

    def before_epoch(self, epoch: int) -> None:
        """Called once random numbers are seeded."""
        for part in self.parts:
            part.before_epoch(epoch)

    def after_epoch(self) -> None:
        """Called before the validation."""
        for part in self.parts:
            part.after_epoch()

    def views(self, images: Tensor, labels: Tensor, indices: Tensor | None = None) -> Batch:
        """The batch of a step, from what the loader gives; under autocast."""
        batch = Batch(images, labels, indices, None if self.all_labelled else labels >= 0)
        for part in self.parts:
            batch = part.views(batch)
        return batch

    def losses(self, batch: Batch, prepared: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised, the model's loss (the same without copies) and the losses (K,) of its exits.

        Args:
            prepared: ``module``, as accelerate prepared it.
        """
        inputs = tuple(given for part, _ in self.beside for given in part.inputs(batch))
        outputs, others = prepared(batch.images, *inputs) if self.beside else (prepared(batch.images), ())
        losses = self.exit_losses(batch, outputs)
        loss = weighted_sum(losses, self.weighing.weights())
        for more in _given(self.parts, lambda part: part.loss(batch, outputs)):
            loss = loss + more
        total = loss
        for part, n in self.beside:
            total = total + part.copies_loss(batch, others[:n], losses.detach())
            others = others[n:]
        return total, loss, losses

    def exit_losses(self, batch: Batch, outputs: Any) -> Tensor:
        """(K,) mean losses of the exits: of the labels, and the terms of all parts."""
        given = list(_given(self.parts, lambda part: part.label_losses(batch, outputs)))
        if len(given) > 1:
            raise ValueError(f"{len(given)} training parts each replace the loss of the labels; leave out all but one")
        losses = given[0] if given else label_losses(outputs, batch, self.config)
        for more in _given(self.parts, lambda part: part.losses(batch, outputs)):
            losses = losses + more
        for factor in _given(self.parts, lambda part: part.image_weights(batch)):
            losses = losses * factor.to(losses)[:, None]
        return losses.mean(dim=0)

    def after_step(self) -> None:
        """Called after each optimizer step."""
        for part in self.parts:
            part.after_step()

    def mean_weights(self) -> tuple[float, ...]:
        """(K,) loss weights of the epoch."""
        return self.weighing.mean_weights()

    def rate(self, group: str, epoch: float) -> float | None:
        """The learning rate over its peak that a part gives ``group`` (trunk, exits) at this time; None: none does."""
        return next((rates[group] for part in self.parts if group in (rates := part.rates(epoch))), None)

    def state_dict(self) -> dict[str, Any]:
        """The state of every part that has one, by its name."""
        states = {part.name: dict(state) for part in self.parts if (state := part.state_dict())}
        if "" in states:
            raise ValueError("a training part that keeps state needs a name")
        return states


def _given(parts: Sequence[TrainingPart], ask: Callable[[TrainingPart], Tensor | None]) -> Any:
    """The answers of the parts that have one."""
    return (answer for part in parts if (answer := ask(part)) is not None)

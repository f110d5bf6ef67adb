"""The training loop: its parts joined as one, a result per epoch, and the validation after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from ..analysis.metrics import area
from ..config import Config, TrainingConfig
from ..data.image_set import ImageSet
from ..data.torch_loaders import batches_of
from ..inference.torch_recording import NotFiniteError, record_meta, record_split, recording_loader
from ..models.dmpo import DMPO
from ..models.flops import ModelFlops
from ..records.record import RecordMeta
from .accelerator import PreparedForward, frozen_in, make_accelerator, require_gradients
from .losses import label_losses, weighted_sum
from .optimizer import make_optimizer, make_schedule, restore
from .parts import Batch, TrainingContext, TrainingPart

if TYPE_CHECKING:
    from ..records.record import ExitRecord
    from ..runs.run import Run

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


# The training loop: model, loader, loss weights by epoch → one `EpochResult` per epoch.
#
# Data sets, files and run folders are handled elsewhere; all but the loss of the labels is done by training parts
# (`parts`). Devices, precision and several processes are accelerate's.
# ``batch_size`` is one micro-batch over all processes; an optimizer step takes ``accumulation`` of them. Every epoch is
# seeded from (seed, epoch), so an epoch repeated after a kill is the same epoch: resuming is bit-equal on CPU.
# Learning rates and loss weights depend only on the epoch and ``config.epochs``: a training that continues with more
# epochs takes those of a training of that length.

LOOK_EVERY = 16  # steps on a GPU between looks at their losses
StepHook = Callable[[int, int, float], None]  # (steps done, steps in this epoch, loss)


class EpochLosses:
    """Losses of an epoch's steps: their means, and a look at each that finds what is not finite.

    A look waits for the device: on a GPU `LOOK_EVERY` steps share one, ``on_step`` is called for each of them then.

    Args:
        epoch: counted from 1. steps: of the epoch. device: of the losses. on_step: called once a loss is known.
        every_step: look at every step, whatever the device.

    Raises:
        FloatingPointError: a loss is not finite.
    """

    def __init__(
        self, epoch: int, steps: int, device: torch.device, on_step: StepHook | None, *, every_step: bool = False
    ) -> None:
        self.epoch, self.steps, self.on_step = epoch, steps, on_step
        self.every = 1 if every_step or _looks_at_every_step(device) else LOOK_EVERY
        self.sums, self.images, self.seen = torch.zeros((), device=device), 0, 0
        self.waiting: list[Tensor] = []

    def add(self, loss: Tensor, parts: Tensor, images: int) -> None:
        """The loss and the (K,) losses of a step, means over its images."""
        self.waiting.append(torch.cat([loss.detach()[None], parts.detach()]))
        self.sums, self.images = self.sums + self.waiting[-1] * images, self.images + images
        if len(self.waiting) == self.every:
            self._look()

    def means(self, accelerator: Accelerator) -> tuple[float, tuple[float, ...]]:
        """The mean loss and the mean loss per exit, over all processes."""
        if self.waiting:
            self._look()
        sums = accelerator.reduce(torch.cat([self.sums, self.sums.new_tensor([self.images])]), "sum").tolist()
        return sums[0] / sums[-1], tuple(value / sums[-1] for value in sums[1:-1])

    def _look(self) -> None:
        for loss, *parts in torch.stack(self.waiting).tolist():
            self.seen += 1
            _require_finite(loss, parts, self.epoch, self.seen)
            if self.on_step:
                self.on_step(self.seen, self.steps, loss)
        self.waiting = []


def _looks_at_every_step(device: torch.device) -> bool:
    return device.type == "cpu"


def _require_finite(loss: float, parts: Sequence[float], epoch: int, step: int) -> None:
    if math.isfinite(loss):
        return
    broken = [k for k, part in enumerate(parts, start=1) if not math.isfinite(part)]
    where = f"exit {', '.join(map(str, broken))}" if broken else "their weighted sum"
    raise FloatingPointError(
        f"the loss became {loss} in epoch {epoch}, step {step} ({where}). "
        "Lower the learning rates, use precision='no' or 'bf16', or check the images for NaN"
    )


@dataclass(frozen=True)
class Validation:
    """Accuracy on validation images after an epoch.

    Args:
        accuracy: (K,), one value per exit.
        area: area under the accuracy–FLOPs curve.
        record: of the validation images; None without one.

    Example:
        >>> Validation((0.5, 0.75), area=0.6)
        Validation(accuracy=(0.5, 0.75), area=0.6)
    """

    accuracy: tuple[float, ...]
    area: float
    record: ExitRecord | None = field(default=None, repr=False)


@dataclass(frozen=True)
class EpochResult:
    """Losses, accuracy and learning rate of one epoch of a training.

    ``epoch`` counts from 1; ``weights``, ``losses`` and ``accuracy`` are (K,), one value per exit; ``learning_rate`` is
    the largest one at the epoch's start.

    ``best`` is true if the area on val is larger than in every earlier epoch. The last result of
    `dmpo_explore.train_epochs` carries the ``run``. ``record`` is the `ExitRecord` of the validation images (None in
    all but the main process).

    Example:
        >>> epoch = EpochResult(1, 3, (1.0, 1.0), (0.9, 0.6), 1.5, (0.7, 0.8), 0.7, 1e-3, seconds=2.0, best=True)
        >>> epoch.row()["accuracy_2"], epoch.row()["area"]
        (0.8, 0.7)
    """

    epoch: int
    epochs: int
    weights: tuple[float, ...]
    losses: tuple[float, ...]
    loss: float
    accuracy: tuple[float, ...]
    area: float
    learning_rate: float
    seconds: float
    best: bool
    run: Run | None = field(default=None, repr=False)
    record: ExitRecord | None = field(default=None, repr=False)

    def row(self) -> dict[str, float]:
        """One flat row of history.csv."""
        row: dict[str, float] = {"epoch": self.epoch}
        for name, values in (("lambda", self.weights), ("loss", self.losses), ("accuracy", self.accuracy)):
            row |= {f"{name}_{k}": value for k, value in enumerate(values, start=1)}
        return row | {
            "area": self.area,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
        }


def fit(
    model: nn.Module,
    loader: Any,
    config: TrainingConfig,
    n_exits: int,
    *,
    validate: Callable[[nn.Module], Validation],
    accelerator: Accelerator | None = None,
    parts: Sequence[TrainingPart] = (),
    state: Mapping[str, Any] | None = None,
    on_step: StepHook | None = None,
    every_step: bool = False,
) -> Iterator[tuple[EpochResult, dict[str, Any]]]:
    """Train a model; yields each epoch's result and the state from which the next epoch can start.

    The model is moved to the accelerator's device. Between epochs it is a plain model, and all of it is in float32.

    Args:
        loader: batches of (images (b,3,S,S), labels (b,)), perhaps with indices (b,). n_exits: K.
        validate: model → `Validation`; called by the main process with ``model`` itself.
        parts: what the training does beside the weighted loss of the exits.
        state: of an earlier epoch, to continue after it, perhaps with more epochs.
        on_step: called after each batch; on a GPU after every `LOOK_EVERY`, for each of them.
        every_step: wait for the device after each batch there too, so that calls of ``on_step`` time the steps.

    Raises:
        FloatingPointError: the loss is not finite, with epoch, step and exit. ValueError: parts that exclude each
            other; several processes, and a trained weight that no logit depends on.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Unflatten(1, (2, 3)))
        >>> images = [(torch.ones(3, 2, 2), 1) for _ in range(8)]
        >>> loader = torch.utils.data.DataLoader(images, batch_size=4)
        >>> settings = TrainingConfig(epochs=1, precision="no")
        >>> epochs = fit(model, loader, settings, 2, validate=lambda model: Validation((0.5, 0.75), 0.6))
        >>> for result, state in epochs:
        ...     print(result.epoch, len(result.losses), result.best, state["epoch"])
        1 2 True 1
    """
    accelerator = accelerator or make_accelerator(config)
    first, best = (int(state["epoch"]), float(state["best"])) if state else (0, -math.inf)
    joined = JoinedParts(parts, model, config, n_exits, accelerator, len(loader), state)
    prepared, optimizer, loader, schedule = _prepared(joined, loader, config, accelerator, state)
    for epoch in range(first, config.epochs):
        start, rate = time.perf_counter(), float(max(schedule.get_last_lr()))
        set_seed((config.seed * 100_003 + epoch) % 2**31, device_specific=True)
        loader.set_epoch(epoch)
        with frozen_in(model, torch.bfloat16 if config.frozen_precision == "bf16" else None):
            joined.before_epoch(epoch)
            looks = EpochLosses(epoch + 1, len(loader), accelerator.device, on_step, every_step=every_step)
            loss, losses = _epoch(joined, prepared, loader, optimizer, schedule, accelerator, config, looks)
            joined.after_epoch()
            seen = _validate(validate, accelerator, model, n_exits)
        improved, best = seen.area > best, max(best, seen.area)
        result = EpochResult(
            epoch + 1, config.epochs, joined.mean_weights(), losses, loss, seen.accuracy, seen.area, rate,
            time.perf_counter() - start, improved, record=seen.record,
        )  # fmt: skip
        done = {"last_epoch": schedule.last_epoch}  # all that is read again; its count of calls begins anew
        states = {"optimizer": optimizer.state_dict(), "schedule": done, **joined.state_dict()}
        states |= {"scaler": accelerator.scaler.state_dict()} if accelerator.scaler else {}  # of fp16
        yield result, {"epoch": epoch + 1, "best": best, **states}


def _prepared(
    joined: JoinedParts, loader: Any, config: TrainingConfig, accelerator: Accelerator, state: Mapping[str, Any] | None
) -> tuple[nn.Module, Any, Any, torch.optim.lr_scheduler.LambdaLR]:
    """Model, optimizer and loader on their devices, and the schedule of the rates, as ``state`` has left them."""
    optimizer, *others = (make_optimizer(network, config) for network in joined.networks)
    for group in (group for other in others for group in other.param_groups):
        optimizer.add_param_group(group)
    steps = math.ceil(len(loader) / config.accumulation)
    done = int(state["schedule"]["last_epoch"]) if state else 0
    schedule = make_schedule(optimizer, config, steps, done, rate=joined.rate)
    prepared = accelerator.prepare(joined.module, optimizer, loader)
    if state:
        restore(optimizer, schedule, accelerator.scaler, state)
    return (*prepared, schedule)


def _epoch(
    joined: JoinedParts,
    prepared: nn.Module,
    loader: Any,
    optimizer: Any,
    schedule: Any,
    accelerator: Accelerator,
    config: TrainingConfig,
    losses: EpochLosses,
) -> tuple[float, tuple[float, ...]]:
    """One pass over the loader; returns the mean loss and the mean loss per exit, over all processes.

    The gradient of an optimizer step is that of the mean loss over all images of its micro-batches, also where the last
    of them is smaller or where there are fewer of them. With several processes, accelerate fills an epoch's last
    micro-batch with images of its first one, so that all processes hold equally many; these count like the others.
    """
    model = prepared.train()
    first = seen = 0  # images of the step's first micro-batch, and of all of them so far
    for images, labels, *indices in batches_of(loader):
        first, seen = first or len(labels), seen + len(labels)
        with accelerator.autocast():
            batch = joined.views(images, labels, *indices)
        with accelerator.accumulate(model):
            total, loss, parts = joined.losses(batch, model)
            accelerator.backward(total * (len(labels) / first))  # which divides by config.accumulation
            if accelerator.num_processes > 1 and not losses.images:  # once an epoch
                require_gradients(joined.networks)
            if accelerator.sync_gradients:
                _scale_gradients(model, config.accumulation * first / seen)
                if config.clip_norm:
                    accelerator.unscale_gradients()  # of fp16
                    for network in joined.networks:
                        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:
                if not accelerator.optimizer_step_was_skipped:  # fp16's gradients overflowed
                    schedule.step()
                joined.after_step()
                first = seen = 0
        losses.add(loss, parts, len(labels))
    return losses.means(accelerator)


def _scale_gradients(model: nn.Module, factor: float) -> None:
    if factor == 1:  # every step of full micro-batches
        return
    for weight in model.parameters():
        if weight.grad is not None:
            weight.grad.mul_(factor)


def _validate(
    validate: Callable[[nn.Module], Validation], accelerator: Accelerator, model: nn.Module, n_exits: int
) -> Validation:
    """Validate in the main process and send the numbers to all processes."""
    if accelerator.num_processes == 1:
        return validate(model)
    seen, record = torch.zeros(n_exits + 1, device=accelerator.device), None
    if accelerator.is_main_process:
        result = validate(model)
        seen[:], record = torch.tensor([*result.accuracy, result.area]), result.record
    *accuracy, area = accelerator.reduce(seen, "sum").tolist()
    return Validation(tuple(accuracy), area, record)


# Validation after an epoch: a model → accuracy of every exit and area on fixed images.


class Validator:
    """Model → accuracy per exit and area on fixed validation images."""

    def __init__(self, images: ImageSet, config: Config, model: DMPO, cost: ModelFlops) -> None:
        self.images = images
        self.meta = record_meta(config, images, model, cost)
        RecordMeta.from_dict(self.meta.to_dict(), "meta")  # now, and not after the first epoch
        self.precision = config.training.precision

    def __call__(self, model: nn.Module) -> Validation:
        assert isinstance(model, DMPO)
        try:
            loader = recording_loader(self.images, model)
            record = record_split(model, loader, self.meta, precision=self.precision, keep_logits=False)
        except NotFiniteError as error:
            raise diverged("val", error) from None
        return Validation(tuple(record.correct.mean(axis=0).tolist()), area(record, "confidence"), record)


def diverged(where: str, error: NotFiniteError) -> FloatingPointError:
    """What to raise for answers that are not finite; ``where``: the images."""
    cause = "training diverged in the last steps of the epoch; lower the learning rates"
    return FloatingPointError(f"on {where} {error}: {cause}")


def spread(images: ImageSet, size: int) -> ImageSet:
    """At most ``size`` of the images, evenly spread over the classes."""
    if len(images) <= size:
        return images
    order = np.argsort(images.labels, kind="stable")
    return images.subset(np.sort(order[np.linspace(0, len(order) - 1, size).astype(int)]))

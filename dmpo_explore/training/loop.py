"""The loop: model, loaders, loss weights by epoch → one `EpochResult` per epoch.

It knows nothing of data sets, files or run folders. Devices, precision, gradient accumulation and several processes are
accelerate's. ``batch_size`` is the whole batch of one step's micro-batch over all processes. Every epoch
seeds itself from (seed, epoch), so an epoch repeated after a kill is the same epoch: resuming is bit-equal on CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, LoggerType, set_seed
from torch import Tensor, nn

from ..config import TrainingConfig
from ..utils.registry import unknown
from .losses import weighted_loss
from .schedules import loss_weights


@dataclass(frozen=True)
class Validation:
    """What an epoch was worth on val: accuracy (K,), the area under the accuracy–FLOPs curve, and the record of it."""

    accuracy: tuple[float, ...]
    area: float
    record: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class EpochResult:
    """One epoch; ``epoch`` counts from 1, (K,) values per exit, ``learning_rate`` is the largest one at its start.

    ``best`` is true where the area on val beats every earlier epoch. The last result of `dmpo_explore.train_epochs`
    carries the ``run``. ``record`` is the `ExitRecord` of the validation images (None in all but the main process).
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
    run: Any = field(default=None, repr=False)
    record: Any = field(default=None, repr=False)

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


StepHook = Callable[[int, int, float], None]  # (steps done, steps in this epoch, loss)


DEVICES = ("auto", "cpu", "cuda")


def make_accelerator(
    config: TrainingConfig, device: str = "auto", trackers: Sequence[str] = (), folder: Path | None = None
) -> Accelerator:
    """An accelerate `Accelerator` for this config.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        trackers: accelerate's, e.g. ``("tensorboard",)``; they write into ``folder``.

    Raises:
        ValueError: an unknown device or tracker, or ``cuda`` without a GPU.
        ImportError: a tracker that is not installed.
    """
    if device not in DEVICES:
        raise ValueError(unknown("device", device, DEVICES))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': there is no usable NVIDIA GPU; use auto or cpu")
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    for tracker in trackers:
        if tracker not in known:
            raise ValueError(unknown("tracker", tracker, known))
        if tracker not in map(str, get_available_trackers()):
            raise ImportError(f"the tracker {tracker!r} is not installed; try `pip install {tracker}`")
    if not torch.distributed.is_initialized():  # accelerate keeps the first one's precision and device for good
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        log_with=list(trackers) or None,
        project_dir=str(folder) if trackers and folder else None,
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulation,
        cpu=device == "cpu" or not torch.cuda.is_available(),  # else torchrun on a CPU is not seen
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=config.seed),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        step_scheduler_with_optimizer=False,
    )


def carry_frozen(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
    """Cast the frozen weights and biases of linear and 2D convolutional layers, in place.

    Under autocast to ``dtype`` every number stays what it was: autocast would cast these weights at every step, and it
    leaves norms, LayerScales and position tables as they are. Without autocast the model runs no more.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for weight in module.parameters(recurse=False):
                if not weight.requires_grad:
                    weight.data = weight.data.to(dtype)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; tuning and predictors have learning rates of their own, vectors and scalars no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            tuned = name.startswith("embed.") or ".trunk." in name
            groups.setdefault((tuned, weight.ndim > 1), []).append(weight)
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": config.tuning_lr if tuned else config.predictor_lr,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (tuned, decays), weights in groups.items()
        ]
    )


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Learning rate over its peak at ``step`` of ``steps``: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def fit(
    model: nn.Module,
    loader: Any,
    config: TrainingConfig,
    n_exits: int,
    *,
    validate: Callable[[nn.Module], Validation],
    accelerator: Accelerator | None = None,
    state: Mapping[str, Any] | None = None,
    on_step: StepHook | None = None,
) -> Iterator[tuple[EpochResult, dict[str, Any]]]:
    """Train; yield after every epoch its result and the state from which training can go on.

    Args:
        loader: batches of (images (b,3,S,S), labels (b,)).
        n_exits: K.
        validate: model → `Validation`; called by the main process.
        state: the state of an earlier epoch, to go on behind it.
        on_step: called after each batch.

    Raises:
        FloatingPointError: the loss is not finite; the message names epoch, step and exit.
    """
    accelerator = accelerator or make_accelerator(config)
    optimizer = make_optimizer(model, config)
    steps = math.ceil(len(loader) / config.accumulation)
    warmup, total = config.warmup_epochs * steps, config.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, total, warmup))
    first, best = 0, -math.inf
    if state:
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first, best = int(state["epoch"]), float(state["best"])
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(first, config.epochs):
        start = time.perf_counter()
        weights = loss_weights(config.schedule, epoch, config.epochs, n_exits, phase_ratio=config.phase_ratio)
        set_seed((config.seed * 100_003 + epoch) % 2**31, device_specific=True)
        loader.set_epoch(epoch)
        rate = float(max(schedule.get_last_lr()))
        loss, losses = _epoch(prepared, loader, optimizer, schedule, accelerator, config, weights, epoch, on_step)
        seen = _validate(validate, accelerator, model, n_exits)
        improved, best = seen.area > best, max(best, seen.area)
        result = EpochResult(
            epoch + 1, config.epochs, tuple(weights), losses, loss, seen.accuracy, seen.area, rate,
            time.perf_counter() - start, improved, record=seen.record,
        )  # fmt: skip
        yield (
            result,
            {
                "epoch": epoch + 1,
                "best": best,
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            },
        )


def _epoch(
    model: nn.Module,
    loader: Any,
    optimizer: Any,
    schedule: Any,
    accelerator: Accelerator,
    config: TrainingConfig,
    weights: tuple[float, ...],
    epoch: int,
    on_step: StepHook | None,
) -> tuple[float, tuple[float, ...]]:
    """One pass; returns the mean loss and the mean loss per exit, over all processes."""
    model.train()
    sums, images = torch.zeros(len(weights) + 1, device=accelerator.device), 0
    for step, (inputs, labels) in enumerate(loader, start=1):
        with accelerator.accumulate(model):
            loss, parts = weighted_loss(model(inputs), labels, weights, config.coupling, config.distill)
            _require_finite(loss, parts, epoch + 1, step)
            accelerator.backward(loss)
            if accelerator.sync_gradients and config.clip_norm:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:
                schedule.step()
        sums += torch.cat([loss.detach()[None], parts.detach()]) * len(labels)
        images += len(labels)
        if on_step:
            on_step(step, len(loader), loss.item())
    means = accelerator.reduce(torch.cat([sums, sums.new_tensor([images])]), "sum").tolist()
    return means[0] / means[-1], tuple(value / means[-1] for value in means[1:-1])


def _require_finite(loss: Tensor, parts: Tensor, epoch: int, step: int) -> None:
    if torch.isfinite(loss):
        return
    broken = [k + 1 for k, part in enumerate(parts.tolist()) if not math.isfinite(part)]
    where = f"exit {', '.join(map(str, broken))}" if broken else "their weighted sum"
    raise FloatingPointError(
        f"the loss became {loss.item()} in epoch {epoch}, step {step} ({where}). "
        "Lower the learning rates, use precision='no' or 'bf16', or check the images for NaN"
    )


def _validate(
    validate: Callable[[nn.Module], Validation], accelerator: Accelerator, model: nn.Module, n_exits: int
) -> Validation:
    """The main process looks, all learn what it saw."""
    if accelerator.num_processes == 1:
        return validate(model)
    seen, record = torch.zeros(n_exits + 1, device=accelerator.device), None
    if accelerator.is_main_process:
        result = validate(model)
        seen[:], record = torch.tensor([*result.accuracy, result.area]), result.record
    *accuracy, area = accelerator.reduce(seen, "sum").tolist()
    return Validation(tuple(accuracy), area, record)

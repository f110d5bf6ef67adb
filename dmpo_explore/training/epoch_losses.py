"""Losses of an epoch: kept on the device, looked at a few steps at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

LOOK_EVERY = 16  # steps on a GPU between looks at their losses
StepHook = Callable[[int, int, float], None]  # (steps done, steps in this epoch, loss)


class EpochLosses:
    """Losses of an epoch's steps: their means, and a look at each that finds what is not finite.

    A look waits for the device: on a GPU `LOOK_EVERY` steps share one, ``on_step`` is called for each of them then.

    Args:
        epoch: counted from 1. steps: of the epoch. device: of the losses. on_step: called once a loss is known.

    Raises:
        FloatingPointError: a loss is not finite.
    """

    def __init__(self, epoch: int, steps: int, device: torch.device, on_step: StepHook | None) -> None:
        self.epoch, self.steps, self.on_step = epoch, steps, on_step
        self.every = 1 if _looks_at_every_step(device) else LOOK_EVERY
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

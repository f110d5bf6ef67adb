"""One exit as a function of the image; the state of the model is restored.

In: a `DMPO`, an exit (0-based), an image. Out: `ExitView`, a module images (B,3,S,S) → logits (B,C) of that exit.
Stages after the exit do not run. Mode, gradients and hooks of the model are restored (`undisturbed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..models.dmpo import DMPO, evaluating


class ExitView(nn.Module):
    """Images (B,3,S,S) → logits (B,C) of exit ``exit`` (0-based); stages after it do not run.

    Its logits are those of ``model(images)[:, exit]``: the same stages, stopped early. With ``score`` they are
    normalised: logarithms of the probabilities, so that of the prediction is the confidence's. ``on_rows`` is called
    with the number of rows after each call.
    """

    def __init__(self, model: DMPO, exit: int, *, score: bool = False) -> None:
        super().__init__()
        check_exit(model, exit)
        self.model, self.exit, self.score = model, exit, score
        self.on_rows: Callable[[int], None] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,S,S) → (B,C)."""
        logits = exit_logits(self.model, images, (self.exit,))[:, 0]
        if self.on_rows:
            self.on_rows(len(images))
        return logits.log_softmax(-1) if self.score else logits


def exit_logits(model: DMPO, images: Tensor, exits: Sequence[int]) -> Tensor:
    """Images (B,3,S,S) → logits (B,E,C) of rising exits (0-based); stages after the last of them do not run."""
    found = []
    for output in model.walk(images):
        if output.k in exits:
            found.append(output.logits)
        if output.k == exits[-1]:
            break
    return torch.stack(found, dim=1)


def rising_exits(model: DMPO, exits: Sequence[int] | None) -> tuple[int, ...]:
    """The given exits (0-based), all by default; ValueError unless they rise and are the model's."""
    count = len(model.stages)
    chosen = tuple(range(count)) if exits is None else tuple(exits)
    if not chosen or list(chosen) != sorted(set(chosen)):
        raise ValueError(f"exits={list(chosen)} must rise without repeats and hold at least one, e.g. [0, {count - 1}]")
    for exit in (chosen[0], chosen[-1]):
        check_exit(model, exit)
    return chosen


def check_exit(model: DMPO, exit: int) -> None:
    """ValueError unless the model has the exit (0-based)."""
    if not 0 <= exit < len(model.stages):
        raise ValueError(f"exit={exit}: this model has exits 0 to {len(model.stages) - 1} (counted from 0 here)")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode, weights without gradients, autograd on; afterwards every module and weight is as it was."""
    wanted = {weight: weight.requires_grad for weight in model.parameters()}
    model.requires_grad_(False)
    try:
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for weight, wants in wanted.items():
            weight.requires_grad_(wants)


def one_image(model: DMPO, image: Tensor) -> Tensor:
    """(3,S,S) or (1,3,S,S) → (1,3,S,S) on the model's device, detached.

    Raises:
        ValueError: another shape, a type that is no float, NaN or infinite values.
    """
    side = model.preprocess.image_size
    batch = image[None] if image.ndim == 3 else image
    if tuple(batch.shape) != (1, 3, side, side):
        raise ValueError(
            f"image of shape {tuple(image.shape)}; this model expects (3, {side}, {side}) or (1, 3, {side}, {side})"
        )
    if not image.is_floating_point():
        raise ValueError(f"image of type {image.dtype}; this model expects preprocessed floats (`Run.inputs`)")
    if not torch.isfinite(image).all():
        raise ValueError("image holds NaN or infinite values")
    with torch.inference_mode(False):
        return batch.detach().clone().to(model.device, torch.float32)

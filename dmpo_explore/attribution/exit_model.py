"""What every attribution method asks: one exit as a function of the image, a baseline, the places to look at.

In: a `DMPO`, an exit, an image. Out: `ExitView` (images → logits (B,C) of that exit; what lies behind it never runs),
baselines, layers whose tokens can be read, and the way between pixels and the cells of a token grid. A model is left as
it was found: mode, gradients and hooks (`undisturbed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.dmpo import DMPO, evaluating
from ..utils.registry import lookup


class ExitView(nn.Module):
    """Images (B,3,S,S) → logits (B,C) of exit ``exit`` (0-based); stages behind it do not run.

    Its logits are those of ``model(images)[:, exit]``: the same stages, stopped early. ``on_rows`` is told how many
    rows each call had.
    """

    def __init__(self, model: DMPO, exit: int) -> None:
        super().__init__()
        check_exit(model, exit)
        self.model, self.exit = model, exit
        self.on_rows: Callable[[int], None] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,S,S) → (B,C)."""
        logits = exit_logits(self.model, images, (self.exit,))[:, 0]
        if self.on_rows:
            self.on_rows(len(images))
        return logits


def exit_logits(model: DMPO, images: Tensor, exits: Sequence[int]) -> Tensor:
    """Images (B,3,S,S) → logits (B,E,C) of rising exits (0-based); stages behind the last of them do not run."""
    state, side, found = model.embed(images), None, []
    for k, stage in enumerate(model.stages[: exits[-1] + 1]):
        state = stage.trunk(state)
        logits, side = stage.predict(state, side)
        if k in exits:
            found.append(logits)
    return torch.stack(found, dim=1)


def rising_exits(model: DMPO, exits: Sequence[int] | None) -> tuple[int, ...]:
    """The exits asked for (0-based), all by default; ValueError unless they rise and are the model's."""
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


# -- baselines --


def _black(model: DMPO, image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (model.preprocess.mean, model.preprocess.std))
    return (-mean / std).expand_as(image).clone()


def _mean(model: DMPO, image: Tensor) -> Tensor:
    return torch.zeros_like(image)


def _blur(model: DMPO, image: Tensor) -> Tensor:
    size = 2 * (image.shape[-1] // 8) + 1
    padded = F.pad(image, [size // 2] * 4, mode="reflect")
    return F.avg_pool2d(padded, size, stride=1)


BASELINES: dict[str, Callable[[DMPO, Tensor], Tensor]] = {"black": _black, "mean": _mean, "blur": _blur}


def make_baseline(model: DMPO, image: Tensor, baseline: str | Tensor) -> Tensor:
    """What stands for "nothing there": (1,3,S,S), or (M,3,S,S) where a stack of M was given.

    Args:
        baseline: ``black`` (no light), ``mean`` (the mean colour of pre-training: zeros), ``blur`` (the image's own box
            blur over a quarter of its side), or preprocessed pixels (3,S,S) or (M,3,S,S).

    Raises:
        ValueError: an unknown name, or pixels of another shape.
    """
    if isinstance(baseline, str):
        return lookup(BASELINES, baseline, "baseline")(model, image)
    stack = baseline[None] if baseline.ndim == 3 else baseline
    if stack.ndim != 4 or stack.shape[1:] != image.shape[1:] or len(stack) < 1:
        raise ValueError(f"baseline of shape {tuple(baseline.shape)}; expected {tuple(image.shape[1:])} or a stack")
    return stack.detach().clone().to(image)


# -- layers --


@dataclass(frozen=True)
class Layer:
    """A place whose output holds tokens: behind ``block`` (counted from 1; 0 is the embedding)."""

    block: int
    module: nn.Module
    stage: int

    @property
    def name(self) -> str:
        """As a person says it."""
        return f"behind block {self.block}" if self.block else "the embedding"


def layers(model: DMPO, exit: int) -> list[Layer]:
    """The places under exit ``exit`` that can be read, deepest first.

    Where states are tokens, every block and the embedding; where they are maps, the end of each stage.
    """
    found, start = [], 0
    first = model.stages[0]
    if first.layout == "tokens":
        found.append(Layer(0, model.embed, 0))
    for k, (stage, end) in enumerate(zip(model.stages[: exit + 1], model.exits, strict=False)):
        blocks = list(stage.trunk) if isinstance(stage.trunk, nn.Sequential) and stage.layout == "tokens" else []
        if len(blocks) == end - start:
            found += [Layer(start + i, block, k) for i, block in enumerate(blocks, start=1)]
        else:
            found.append(Layer(end, stage.trunk, k))
        start = end
    return found[::-1]


# -- pixels and cells --


def cell_index(side: int, grid: tuple[int, int]) -> np.ndarray:
    """(side, side) int: the cell, row by row, that each pixel lies in; sides need not divide."""
    rows, columns = (np.arange(side) * n // side for n in grid)
    index: np.ndarray = rows[:, None] * grid[1] + columns[None, :]
    return index


def to_cells(heat: np.ndarray, grid: tuple[int, int], *, mean: bool = False) -> np.ndarray:
    """(H,H) → (rows, columns): sums, or means, over the pixels of each cell."""
    index = cell_index(heat.shape[0], grid).ravel()
    total: np.ndarray = np.bincount(index, weights=heat.ravel().astype(np.float64), minlength=grid[0] * grid[1])
    if mean:
        total = total / np.bincount(index, minlength=grid[0] * grid[1])
    return total.reshape(grid).astype(np.float32)


def to_pixels(tokens: np.ndarray, side: int, *, spread: bool = False) -> np.ndarray:
    """(rows, columns) → (side, side): every pixel gets its cell's value; with ``spread`` an equal share of it."""
    index = cell_index(side, (tokens.shape[0], tokens.shape[1]))
    values = tokens.ravel().astype(np.float64)
    if spread:
        values = values / np.bincount(index.ravel(), minlength=len(values))
    pixels: np.ndarray = values[index].astype(np.float32)
    return pixels

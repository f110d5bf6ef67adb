"""What an attribution method works on: pixels and cells of the token grid, baselines, one exit as a function.

In: a heat map (S,S) or a token map (rows, columns). Out: the other of the two. Sides need not divide: pixel i of S lies
in row ⌊i · rows / S⌋.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.dmpo import DMPO, evaluating
from ..utils.registry import lookup
from ..utils.typing import Array


def cell_index(side: int, grid: tuple[int, int]) -> Array:
    """Number of the cell in which each pixel lies, (side, side) int, counted row by row."""
    rows, columns = (np.arange(side) * n // side for n in grid)
    index: Array = rows[:, None] * grid[1] + columns[None, :]
    return index


def to_cells(heat: Array, grid: tuple[int, int], *, mean: bool = False) -> Array:
    """Sums, or means, of a heat map over the pixels of each cell: (S,S) → (rows, columns) float32.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> dx.attribution.to_cells(np.arange(16.0).reshape(4, 4), (2, 2)).tolist()
        [[10.0, 18.0], [42.0, 50.0]]
    """
    index = cell_index(heat.shape[0], grid).ravel()
    total: Array = np.bincount(index, weights=heat.ravel().astype(np.float64), minlength=grid[0] * grid[1])
    if mean:
        total = total / np.bincount(index, minlength=grid[0] * grid[1])
    return total.reshape(grid).astype(np.float32)


def to_pixels(tokens: Array, side: int, *, spread: bool = False) -> Array:
    """A token map in pixels: (rows, columns) → (side, side) float32, every pixel with its cell's value.

    Args:
        spread: every pixel gets an equal share of its cell's value instead, so that sums stay.
    """
    index = cell_index(side, (tokens.shape[0], tokens.shape[1]))
    values = tokens.ravel().astype(np.float64)
    if spread:
        values = values / np.bincount(index.ravel(), minlength=len(values))
    pixels: Array = values[index].astype(np.float32)
    return pixels


# Baselines: the input that stands for the absence of evidence, against which attributions are measured.
#
# In: a `DMPO` and a preprocessed image (1,3,S,S). Out: preprocessed pixels of the same shape.


def _black(model: DMPO, image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (model.preprocess.mean, model.preprocess.std))
    return (-mean / std).expand_as(image).clone()


def _blur(model: DMPO, image: Tensor) -> Tensor:
    size = 2 * (image.shape[-1] // 8) + 1
    padded = F.pad(image, [size // 2] * 4, mode="reflect")
    return F.avg_pool2d(padded, size, stride=1)


BASELINES: dict[str, Callable[[DMPO, Tensor], Tensor]] = {
    "black": _black,
    "mean": lambda model, image: torch.zeros_like(image),  # images are normalised: their mean is 0
    "blur": _blur,
}


def make_baseline(model: DMPO, image: Tensor, baseline: str | Tensor) -> Tensor:
    """The baseline of an image: (1,3,S,S), or (M,3,S,S) where a stack of M is given.

    Args:
        model: of which the preprocessing is read. image: (1,3,S,S), preprocessed.
        baseline: ``black`` (no light), ``mean`` (the mean colour of pre-training: zeros), ``blur`` (the image's own box
            blur over a quarter of its side), or preprocessed pixels (3,S,S) or (M,3,S,S).

    Raises:
        ValueError: an unknown name, or pixels of another shape or not finite.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> dx.attribution.make_baseline(model, torch.rand(1, 3, 32, 32), "blur").shape
        torch.Size([1, 3, 32, 32])
    """
    if isinstance(baseline, str):
        return lookup(BASELINES, baseline, "baseline")(model, image)
    stack = baseline[None] if baseline.ndim == 3 else baseline
    if stack.ndim != 4 or stack.shape[1:] != image.shape[1:] or len(stack) < 1:
        raise ValueError(f"baseline of shape {tuple(baseline.shape)}; expected {tuple(image.shape[1:])} or a stack")
    if not stack.isfinite().all():
        raise ValueError("the baseline has pixels that are not finite")
    return stack.detach().clone().to(image)


# One exit as a function of the image; the state of the model is restored.
#
# In: a `DMPO`, an exit (0-based), an image. Out: `ExitView`, a module images (B,3,S,S) → logits (B,C) of that exit.
# Stages after the exit do not run. Mode, gradients and hooks of the model are restored (`undisturbed`).


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


# Layers of a model under an exit: which can be read, their activations and gradients.
#
# In: a `DMPO` and an exit, or an `ExitView` and an image. Out: `Layer`s, and activation and gradient of a logit at
# each.


@dataclass(frozen=True)
class Layer:
    """A module whose output holds tokens.

    Args:
        block: its number, counted from 1; 0 is the embedding. stage: 0-based stage that it belongs to.
    """

    block: int
    module: nn.Module
    stage: int

    @property
    def name(self) -> str:
        """In words."""
        return f"after block {self.block}" if self.block else "the embedding"


def layers(model: DMPO, exit: int) -> list[Layer]:
    """The layers under a 0-based exit whose tokens can be read, deepest first.

    These are every block and the embedding where states are tokens, and the end of each stage where they are maps.
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


def readable_layer(view: ExitView, image: Tensor, target: int, block: int | None = None) -> Layer:
    """The layer after a block, by default the deepest under the exit on whose patch tokens the logit depends.

    Args:
        image: (1,3,S,S). target: class of the logit. block: its number, counted from 1; 0 is the embedding.

    Raises:
        ValueError: no such layer, one after the exit, or one whose patch tokens have a gradient of exactly 0.
    """
    found, end = layers(view.model, view.exit), view.model.exits[view.exit]
    if block is not None:
        if block > end:
            raise ValueError(
                f"layer={block} is after exit {view.exit + 1} (after block {end}), which does not read it: every "
                f"attribution there is 0. Use a layer up to {end}"
            )
        found = [place for place in found if place.block == block]
        if not found:
            blocks = sorted(place.block for place in layers(view.model, view.exit))
            raise ValueError(f"layer={block} cannot be read; this exit has {blocks} (block numbers, 0: embedding)")
    for place, (_, gradient) in zip(found, activations(view, image, target, found), strict=True):
        stage = view.model.stages[place.stage]
        if stage.tokens(gradient)[:, stage.prefix :].abs().max() > 0:
            return place
    raise ValueError(
        f"exit {view.exit + 1} reads no patch token {found[0].name}: the gradient there is exactly 0 and so would be "
        "the map (as under a predictor that reads only the class token); use layer=None or an earlier block"
    )


def activations(view: ExitView, image: Tensor, target: int, places: list[Layer]) -> list[tuple[Tensor, Tensor]]:
    """Activation of each layer and gradient of the target's logit with respect to it, by one forward pass."""
    seen: dict[int, Tensor] = {}

    def keep(i: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda module, inputs, output: seen.__setitem__(i, output)

    handles = [place.module.register_forward_hook(keep(i)) for i, place in enumerate(places)]
    try:
        logit = view(image.clone().requires_grad_())[0, target]
    finally:
        for handle in handles:
            handle.remove()
    states = [seen[i] for i in range(len(places))]
    found = torch.autograd.grad(logit, states, allow_unused=True)
    return [(s.detach(), torch.zeros_like(s) if g is None else g) for s, g in zip(states, found, strict=True)]


# Input and output of an attribution method.
#
# In: a `Query`: exit, image, baseline, class and settings. Out: a `HeatMap`: values in pixels and on the token grid.

DELTA_BOUND = 0.05  # ours: |delta| above this share of |logit difference|, or of 1 logit if that is more, is too much
FEWEST_STEPS = 50  # 16 steps gave the wrong sign on a ViT


def check_steps(steps: int) -> None:
    """Raise ValueError for too few steps."""
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps={steps} must be at least {FEWEST_STEPS}; with fewer, maps of the wrong sign occurred")


def chosen_class(logits: Tensor, target: int | None) -> int:
    """The class that is explained: the given one, else that of these logits (C,); ValueError for none of them."""
    if target is not None and not 0 <= target < len(logits):
        raise ValueError(f"target={target}: this model has classes 0 to {len(logits) - 1}")
    return int(logits.argmax()) if target is None else int(target)


T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """The input of a method.

    Args:
        view: the exit. image: (1,3,S,S). baseline: (1,3,S,S), or a stack for `gradient_shap`. target: class.
        steps: of a path integral, or samples. batch: largest number of rows of a forward pass. layer: block number or
            None.
        seed: of `gradient_shap`.
        precomputed: function that returns the result of `methods.integrate`, if computed together with other exits.
    """

    view: ExitView
    image: Tensor
    baseline: Tensor
    target: int
    steps: int = 64
    batch: int = 32
    layer: int | None = None
    seed: int = 0
    precomputed: Callable[[], tuple[Tensor, float]] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the exit's patch tokens."""
        return self.view.model.stages[self.view.exit].grid

    @property
    def side(self) -> int:
        """S, in pixels."""
        return int(self.image.shape[-1])

    def difference(self) -> float:
        """Logit of the image minus the (mean) logit of the baseline."""
        with torch.no_grad():
            there, nothing = (self.answers(pixels)[:, self.target] for pixels in (self.image, self.baseline))
        return float(there.mean() - nothing.mean())

    def answers(self, pixels: Tensor) -> Tensor:
        """(N,3,S,S) → (N,C) logits, at most ``batch`` rows at a time."""
        return torch.cat([self.view(pixels[i : i + self.batch]) for i in range(0, len(pixels), self.batch)])


@dataclass(frozen=True)
class HeatMap:
    """The output of a method; `results.Attribution` describes the fields."""

    heat: Array
    tokens: Array
    prefix: Array
    delta: float | None = None
    steps: int | None = None
    layer: str = ""


def pixel_map(
    query: Query, heat: Tensor, *, mean: bool = False, delta: float | None = None, steps: int | None = None
) -> HeatMap:
    """A method's values per pixel (1,S,S) → `HeatMap`; tokens are sums over their pixels, or means."""
    values = heat[0].detach().float().cpu().numpy()
    return HeatMap(values, to_cells(values, query.grid, mean=mean), np.zeros(0, np.float32), delta, steps)


def token_map(
    query: Query,
    layer: Layer,
    found: Tensor,
    *,
    spread: bool = False,
    delta: float | None = None,
    steps: int | None = None,
) -> HeatMap:
    """A method's values per token and channel at a layer, in the layout of its states → `HeatMap`."""
    stage = query.view.model.stages[layer.stage]
    values = stage.tokens(found)[0].sum(-1).float().cpu().numpy()  # channels collapsed: (N,)
    tokens = values[stage.prefix :].reshape(stage.grid)
    heat = to_pixels(tokens, query.side, spread=spread)
    return HeatMap(heat, tokens, values[: stage.prefix], delta, steps, layer.name)


def within_bound(delta: float, difference: float) -> bool:
    """Whether a convergence delta is at most `DELTA_BOUND` (5 %) of a logit difference, which is taken as at least 1.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.attribution.within_bound(0.2, difference=5.0), dx.attribution.within_bound(0.3, difference=5.0)
        (True, False)
    """
    return abs(delta) <= DELTA_BOUND * max(abs(difference), 1.0)


def refine(
    integral: Callable[[int], tuple[T, float]], steps: int, difference: float, doublings: int = 2
) -> tuple[T, float, int]:
    """A path integral with enough steps, which are doubled while the convergence delta is above the bound.

    Args:
        integral: number of steps → values and convergence delta. difference: of the logits.

    Returns:
        Values, delta and number of steps of the attempt with the smallest |delta|.
    """
    tried = []
    for n in (steps * 2**i for i in range(doublings + 1)):
        values, delta = integral(n)
        tried.append((abs(delta), n, values, delta))
        if within_bound(delta, difference):
            break
    _, n, values, delta = min(tried, key=lambda attempt: attempt[:2])
    return values, delta, n

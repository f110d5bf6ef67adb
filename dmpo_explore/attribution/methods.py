"""One image, one exit, one class → a map, by the method's name.

In: a `Question`. Out: an `Explained`: heat (S,S), tokens (rows, columns), what the prefix tokens got, the convergence
delta where the method defines one. Captum's methods are called as they are; `token_grad_cam` and `attention_rollout`
are ours. `REFUSED` holds methods that run, or nearly, and mislead on these models, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import (
    FeatureAblation,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    LayerIntegratedGradients,
    Occlusion,
    Saliency,
)
from torch import Tensor

from ..models.dmpo import DMPO
from ..utils.torch_seeding import seeded
from .exit_model import ExitView, Layer, cell_index, exit_logits, layers, rising_exits, to_cells, to_pixels
from .rollout import roll_out

DELTA_BOUND = 0.05  # ours: |delta| above this share of |logit difference|, or of 1 logit if that is more, is too much
FEWEST_STEPS = 50  # 16 steps gave the wrong sign on a ViT


@dataclass(frozen=True)
class Question:
    """What a method is asked.

    Args:
        view: the exit. image: (1,3,S,S). baseline: (1,3,S,S), or a stack for `gradient_shap`. target: class.
        steps: of a path integral, or samples. batch: rows a forward pass may hold. layer: block number or None.
        begun: gives what `integrate` would, where it was made together with other exits.
    """

    view: ExitView
    image: Tensor
    baseline: Tensor
    target: int
    steps: int = 64
    batch: int = 32
    layer: int | None = None
    seed: int = 0
    begun: Callable[[], tuple[Tensor, float]] | None = None

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
            there, nothing = (self.view(pixels)[:, self.target] for pixels in (self.image, self.baseline))
        return float(there.mean() - nothing.mean())


@dataclass(frozen=True)
class Explained:
    """What a method answers; see `attribution.Attribution` for the meaning."""

    heat: np.ndarray
    tokens: np.ndarray
    prefix: np.ndarray
    delta: float | None = None
    steps: int | None = None
    layer: str = ""


@dataclass(frozen=True)
class Method:
    """How to ask, what a pixel or token means, how many rows go through the model, whether it is an attribution."""

    ask: Callable[[Question], Explained]
    unit: str
    rows: Callable[[Question], int]
    additive: bool = False
    is_attribution: bool = True


def within_bound(delta: float, difference: float) -> bool:
    """Whether a convergence delta is small enough: `DELTA_BOUND`."""
    return abs(delta) <= DELTA_BOUND * max(abs(difference), 1.0)


# -- pixels --


def integrate(question: Question) -> tuple[Tensor, float]:
    """Captum's integrated gradients, any number of steps: (1,3,S,S) and the convergence delta."""
    found, delta = IntegratedGradients(question.view).attribute(
        question.image,
        baselines=question.baseline[:1],
        target=question.target,
        n_steps=question.steps,
        internal_batch_size=question.batch,
        return_convergence_delta=True,
    )
    return found.detach(), float(delta)


def integrate_exits(
    model: DMPO,
    image: Tensor,
    baseline: Tensor,
    target: int,
    steps: int,
    batch: int,
    on_rows: Callable[[int], None] | None = None,
    exits: Sequence[int] | None = None,
) -> list[tuple[Tensor, float]]:
    """What `integrate` gives, for E rising exits by one forward pass a step (captum would run one for each exit).

    Same rule as captum's default: Gauss-Legendre on the straight line from the baseline to the image. Nothing behind
    the last of ``exits`` (0-based; default: all) runs.
    """
    exits = rising_exits(model, exits)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places, share = (torch.from_numpy(v).to(image) for v in ((nodes + 1) / 2, weights / 2))
    total: list[Tensor] = [torch.zeros_like(image) for _ in exits]
    for place, part in zip(torch.split(places, batch), torch.split(share, batch), strict=True):
        pixels = _leaf(baseline + place.view(-1, 1, 1, 1) * (image - baseline))
        logits = exit_logits(model, pixels, exits)[..., target]  # (rows, E)
        if on_rows:
            on_rows(len(place))
        for k in range(len(total)):
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), pixels, retain_graph=True)
            total[k] += (gradient * part.view(-1, 1, 1, 1)).sum(0, keepdim=True) * (image - baseline)
    with torch.no_grad():
        there, nothing = exit_logits(model, torch.cat((image, baseline)), exits)[..., target]
    return [(total[k], float(total[k].sum() - (there[k] - nothing[k]))) for k in range(len(total))]


def _integrated_gradients(question: Question) -> Explained:
    """Sundararajan et al. 2017. Ours: steps are doubled, at most twice, while delta is above the bound."""
    difference, tried = question.difference(), []
    for factor in (1, 2, 4):
        if factor == 1 and question.begun:
            found, delta = question.begun()
        else:
            found, delta = integrate(_changed(question, steps=question.steps * factor))
        tried.append((abs(delta), factor, found, delta))
        if within_bound(delta, difference):
            break
    _, factor, found, delta = min(tried, key=lambda entry: entry[:2])
    return _from_pixels(question, found.sum(1), delta=delta, steps=question.steps * factor)


def _gradient_shap(question: Question) -> Explained:
    """Erion et al. 2021, as captum has it: gradients at random places between random baselines and the image."""
    total, deltas, left = torch.zeros_like(question.image), [], question.steps
    with _seeded(question.seed):
        while left > 0:
            n = min(question.batch, left)
            found, delta = GradientShap(question.view).attribute(
                question.image,
                question.baseline,
                n_samples=n,
                target=question.target,
                return_convergence_delta=True,
            )
            total += found.detach() * n
            deltas += delta.flatten().tolist()
            left -= n
    heat = (total / question.steps).sum(1)
    return _from_pixels(question, heat, delta=float(np.mean(deltas)), steps=question.steps)


def _saliency(question: Question) -> Explained:
    """Simonyan et al. 2014: |gradient|, the largest of the three channels."""
    found = Saliency(question.view).attribute(_leaf(question.image), target=question.target)
    return _from_pixels(question, found.detach().amax(1), mean=True)


def _input_x_gradient(question: Question) -> Explained:
    found = InputXGradient(question.view).attribute(_leaf(question.image), target=question.target)
    return _from_pixels(question, found.sum(1))


def _occlusion(question: Question) -> Explained:
    """Zeiler and Fergus 2014: a window of one patch, moved by half a patch, shows the baseline."""
    window, stride = _window(question)
    found = Occlusion(question.view).attribute(
        question.image,
        sliding_window_shapes=(3, *window),
        strides=(3, *stride),
        baselines=question.baseline[:1],
        target=question.target,
        perturbations_per_eval=question.batch,
    )
    return _from_pixels(question, found.mean(1), mean=True)


def _feature_ablation(question: Question) -> Explained:
    """One patch at a time shows the baseline; a token's value is what the logit loses."""
    index = torch.from_numpy(cell_index(question.side, question.grid)).to(question.image.device)
    found = FeatureAblation(question.view).attribute(
        question.image,
        baselines=question.baseline[:1],
        target=question.target,
        feature_mask=index.expand(1, 3, -1, -1),
        perturbations_per_eval=question.batch,
    )
    return _from_pixels(question, found.mean(1), mean=True)


# -- tokens --


def _layer_integrated_gradients(question: Question) -> Explained:
    """Integrated gradients from the baseline's tokens to the image's tokens behind a block."""
    place = readable_layer(question)
    difference, tried = question.difference(), []
    for factor in (1, 2, 4):
        found, delta = LayerIntegratedGradients(question.view, place.module).attribute(
            question.image,
            baselines=question.baseline[:1],
            target=question.target,
            n_steps=question.steps * factor,
            internal_batch_size=question.batch,
            return_convergence_delta=True,
        )
        tried.append((abs(float(delta)), factor, found.detach(), float(delta)))
        if within_bound(float(delta), difference):
            break
    _, factor, found, delta = min(tried, key=lambda entry: entry[:2])
    return _from_tokens(question, place, found, spread=True, delta=delta, steps=question.steps * factor)


def _token_grad_cam(question: Question) -> Explained:
    """Ours: gradient × activation, channels collapsed per token, signed.

    This is the elementwise form of Grad-CAM (HiResCAM, Draelos and Carin 2020): averaging the gradient over tokens
    first, as Grad-CAM does, would give every token the weights of those few that are read.
    """
    place = readable_layer(question)
    (found, gradient), *_ = _gradients(question, [place])
    return _from_tokens(question, place, found * gradient)


def _attention_rollout(question: Question) -> Explained:
    tokens = roll_out(question.view, question.image)
    return Explained(to_pixels(tokens, question.side), tokens, np.zeros(0, np.float32))


def readable_layer(question: Question) -> Layer:
    """The asked layer, or the deepest under the exit on whose patch tokens the logit depends.

    Raises:
        ValueError: no such layer, one behind the exit, or one whose patch tokens have a gradient of exactly 0.
    """
    view, wanted = question.view, question.layer
    found, end = layers(view.model, view.exit), view.model.exits[view.exit]
    if wanted is not None:
        if wanted > end:
            raise ValueError(
                f"layer={wanted} lies behind exit {view.exit + 1} (after block {end}), which never reads it: every "
                f"attribution there is 0. Use a layer up to {end}"
            )
        found = [place for place in found if place.block == wanted]
        if not found:
            blocks = sorted(place.block for place in layers(view.model, view.exit))
            raise ValueError(f"layer={wanted} cannot be read; this exit has {blocks} (block numbers, 0: embedding)")
    for place, (_, gradient) in zip(found, _gradients(question, found), strict=True):
        stage = view.model.stages[place.stage]
        if stage.tokens(gradient)[:, stage.prefix :].abs().max() > 0:
            return place
    raise ValueError(
        f"exit {view.exit + 1} reads no patch token {found[0].name}: the gradient there is exactly 0 and so would be "
        "the map (as under a predictor that reads only the class token); use layer=None or an earlier block"
    )


def _gradients(question: Question, places: list[Layer]) -> list[tuple[Tensor, Tensor]]:
    """Activation and gradient of the target logit at each place, by one forward pass."""
    seen: dict[int, Tensor] = {}

    def keep(i: int) -> Callable[[Any, Any, Tensor], None]:
        return lambda module, inputs, output: seen.__setitem__(i, output)

    handles = [place.module.register_forward_hook(keep(i)) for i, place in enumerate(places)]
    try:
        logit = question.view(_leaf(question.image))[0, question.target]
    finally:
        for handle in handles:
            handle.remove()
    states = [seen[i] for i in range(len(places))]
    found = torch.autograd.grad(logit, states, allow_unused=True)
    return [(s.detach(), torch.zeros_like(s) if g is None else g) for s, g in zip(states, found, strict=True)]


# -- the list --


def _few(question: Question) -> int:
    return 1


def _path(question: Question) -> int:
    return question.steps + 6


def _windows(question: Question) -> int:
    window, stride = _window(question)
    counts = [-(-(question.side - w) // s) + 1 for w, s in zip(window, stride, strict=True)]
    return counts[0] * counts[1] + 1


LOGIT, DROP = "logit", "drop of the logit"
METHODS: dict[str, Method] = {
    "integrated_gradients": Method(_integrated_gradients, LOGIT, _path, additive=True),
    "gradient_shap": Method(_gradient_shap, LOGIT, lambda q: 3 * q.steps + 2, additive=True),
    "saliency": Method(_saliency, "logit per unit of input", _few),
    "input_x_gradient": Method(_input_x_gradient, "logit, to first order", _few),
    "occlusion": Method(_occlusion, DROP, _windows),
    "feature_ablation": Method(_feature_ablation, DROP, lambda q: q.grid[0] * q.grid[1] + 1),
    "layer_integrated_gradients": Method(_layer_integrated_gradients, LOGIT, _path, additive=True),
    "token_grad_cam": Method(_token_grad_cam, "logit, to first order", lambda q: 2),
    "attention_rollout": Method(_attention_rollout, "share of attention", _few, is_attribution=False),
}

_DEEP_LIFT = (
    "DeepLift's rules cover layers that act on one number at a time; it runs on these models and is wrong, for "
    "LayerNorm, attention's products and softmax, and covariances mix numbers. Use 'integrated_gradients'"
)
REFUSED: dict[str, str] = {
    "deep_lift": _DEEP_LIFT,
    "deep_lift_shap": _DEEP_LIFT,
    "lrp": "layer-wise relevance propagation has no rule for LayerNorm, GELU and attention and stops at the first of "
    "them. Use 'integrated_gradients'",
    "layer_grad_cam": "LayerGradCam takes dimension 1 for channels, which is the tokens here: it averages the gradient "
    "over channels and collapses the tokens, so that no map is left. Use 'token_grad_cam'",
}


def _window(question: Question) -> tuple[tuple[int, int], tuple[int, int]]:
    """Occlusion's window and stride in pixels: one cell, half a cell."""
    window = -(-question.side // question.grid[0]), -(-question.side // question.grid[1])
    return window, (max(1, window[0] // 2), max(1, window[1] // 2))


def _leaf(image: Tensor) -> Tensor:
    return image.clone().requires_grad_()


def _changed(question: Question, **values: Any) -> Question:
    return Question(**{**vars(question), **values})


def _from_pixels(
    question: Question, heat: Tensor, *, mean: bool = False, delta: float | None = None, steps: int | None = None
) -> Explained:
    values = heat[0].detach().float().cpu().numpy()
    return Explained(values, to_cells(values, question.grid, mean=mean), np.zeros(0, np.float32), delta, steps)


def _from_tokens(
    question: Question,
    place: Layer,
    found: Tensor,
    *,
    spread: bool = False,
    delta: float | None = None,
    steps: int | None = None,
) -> Explained:
    stage = question.view.model.stages[place.stage]
    values = stage.tokens(found)[0].sum(-1).float().cpu().numpy()  # channels collapsed: (N,)
    tokens = values[stage.prefix :].reshape(stage.grid)
    heat = to_pixels(tokens, question.side, spread=spread)
    return Explained(heat, tokens, values[: stage.prefix], delta, steps, place.name)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Captum draws from torch's and numpy's global generators; both are as before afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    with seeded(seed):
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002

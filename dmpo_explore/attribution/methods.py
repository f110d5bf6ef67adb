"""Attribution methods: by gradients of pixels and tokens, by perturbation, by attention rollout; their catalogue.

Gradient methods in pixel space: integrated gradients, gradient SHAP, saliency, input × gradient.
In: a `Query`. Out: a `HeatMap`. Captum's methods are called as they are; `integrate_exits` is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

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

from ..models.attention import attention_weights
from ..models.dmpo import DMPO
from ..utils.torch_tools import seeded
from ..utils.typing import Array
from .exit_model import (
    ExitView,
    HeatMap,
    Query,
    activations,
    cell_index,
    exit_logits,
    pixel_map,
    readable_layer,
    refine,
    rising_exits,
    to_pixels,
    token_map,
)


def integrate(query: Query) -> tuple[Tensor, float]:
    """Captum's integrated gradients with any number of steps: (1,3,S,S) and the convergence delta."""
    found, delta = IntegratedGradients(query.view).attribute(
        query.image,
        baselines=query.baseline[:1],
        target=query.target,
        n_steps=query.steps,
        internal_batch_size=query.batch,
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
    """Integrated gradients of several exits by one forward pass a step, where Captum would run one for each exit.

    The rule is Captum's default: Gauss-Legendre on the straight line from the baseline to the image.

    Args:
        image, baseline: (1,3,S,S), preprocessed. target: class. steps: of the integral.
        batch: steps per forward pass. on_rows: called with the number of rows after each pass.
        exits: 0-based, rising; default: all. Stages after the last of them do not run.

    Returns:
        For each exit the attributions (1,3,S,S) and the convergence delta.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> maps = dx.attribution.integrate_exits(model, image, torch.zeros_like(image), target=0, steps=50, batch=25)
        >>> [(tuple(values.shape), abs(delta) < 0.1) for values, delta in maps]
        [((1, 3, 32, 32), True), ((1, 3, 32, 32), True)]
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


def integrated_gradients(query: Query) -> HeatMap:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365).

    Ours: steps are doubled, at most twice, while the convergence delta is above the bound.
    """

    def integral(steps: int) -> tuple[Tensor, float]:
        if steps == query.steps and query.precomputed:
            return query.precomputed()
        return integrate(replace(query, steps=steps))

    found, delta, steps = refine(integral, query.steps, query.difference())
    return pixel_map(query, found.sum(1), delta=delta, steps=steps)


def gradient_shap(query: Query) -> HeatMap:
    """Gradient SHAP (Erion et al. 2021, arXiv 1906.10670): gradients at random places between baselines and image."""
    total, left = torch.zeros_like(query.image), query.steps
    with _seeded(query.seed):
        while left > 0:
            n = min(query.batch, left)
            found = GradientShap(query.view).attribute(query.image, query.baseline, n_samples=n, target=query.target)
            total += found.detach() * n
            left -= n
    heat = (total / query.steps).sum(1)
    return pixel_map(query, heat, delta=float(heat.sum()) - query.difference(), steps=query.steps)


def saliency(query: Query) -> HeatMap:
    """Saliency (Simonyan et al. 2014, arXiv 1312.6034): |gradient|, the largest of the three channels."""
    found = Saliency(query.view).attribute(_leaf(query.image), target=query.target)
    return pixel_map(query, found.detach().amax(1), mean=True)


def input_x_gradient(query: Query) -> HeatMap:
    """Input × gradient (Shrikumar et al. 2016, arXiv 1605.01713), summed over channels."""
    found = InputXGradient(query.view).attribute(_leaf(query.image), target=query.target)
    return pixel_map(query, found.sum(1))


def _leaf(image: Tensor) -> Tensor:
    return image.clone().requires_grad_()


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


# Gradient methods in token space: layer integrated gradients and Grad-CAM on tokens.
#
# In: a `Query`, whose ``layer`` is a block number. Out: a `HeatMap` on the token grid of that layer.


def layer_integrated_gradients(query: Query) -> HeatMap:
    """Integrated gradients from the baseline's tokens to the image's tokens after a block, by Captum.

    Steps are doubled as in `integrated_gradients`.

    Raises:
        ValueError: an exit that reads more than this layer's tokens, so that their values do not add up to its logit.
    """
    place = readable_layer(query.view, query.image, query.target, query.layer)
    model, exit = query.view.model, query.view.exit
    beside = any(stage.reads_side or stage.earlier is not None for stage in model.stages[1 : exit + 1])
    if beside and place.block > model.exits[0]:
        raise ValueError(
            f"exit {exit + 1} reads earlier exits beside the tokens {place.name}, which the map would leave out: use "
            f"layer={model.exits[0]} or below, or method='integrated_gradients'"
        )

    def integral(steps: int) -> tuple[Tensor, float]:
        found, delta = LayerIntegratedGradients(query.view, place.module).attribute(
            query.image,
            baselines=query.baseline[:1],
            target=query.target,
            n_steps=steps,
            internal_batch_size=query.batch,
            return_convergence_delta=True,
        )
        return found.detach(), float(delta)

    found, delta, steps = refine(integral, query.steps, query.difference())
    return token_map(query, place, found, spread=True, delta=delta, steps=steps)


def token_grad_cam(query: Query) -> HeatMap:
    """Elementwise Grad-CAM on tokens: gradient × activation, summed over channels per token, signed.

    This is HiResCAM (Draelos and Carin 2020, arXiv 2011.08891). Grad-CAM averages the gradient over tokens first, which
    would give every token the weights of the few that the predictor reads.
    """
    place = readable_layer(query.view, query.image, query.target, query.layer)
    (found, gradient), *_ = activations(query.view, query.image, query.target, [place])
    return token_map(query, place, found * gradient)


# Perturbation methods: occlusion and feature ablation, by Captum.
#
# In: a `Query`. Out: a `HeatMap` of how much the logit drops where the image shows the baseline.


def occlusion(query: Query) -> HeatMap:
    """Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): a window of one patch, moved by half a patch."""
    window, stride = _window(query)
    found = Occlusion(query.view).attribute(
        query.image,
        sliding_window_shapes=(3, *window),
        strides=(3, *stride),
        baselines=query.baseline[:1],
        target=query.target,
        perturbations_per_eval=query.batch,
    )
    return pixel_map(query, found.mean(1), mean=True)


def feature_ablation(query: Query) -> HeatMap:
    """Feature ablation: one patch at a time shows the baseline; a token's value is the drop of the logit."""
    index = torch.from_numpy(cell_index(query.side, query.grid)).to(query.image.device)
    found = FeatureAblation(query.view).attribute(
        query.image,
        baselines=query.baseline[:1],
        target=query.target,
        feature_mask=index.expand(1, 3, -1, -1),
        perturbations_per_eval=query.batch,
    )
    return pixel_map(query, found.mean(1), mean=True)


def occlusion_rows(query: Query) -> int:
    """Number of images that `occlusion` runs through the model."""
    window, stride = _window(query)
    counts = [-(-(query.side - w) // s) + 1 for w, s in zip(window, stride, strict=True)]
    return counts[0] * counts[1] + 1


def _window(query: Query) -> tuple[tuple[int, int], tuple[int, int]]:
    """Occlusion's window and stride in pixels: one cell, half a cell."""
    window = -(-query.side // query.grid[0]), -(-query.side // query.grid[1])
    return window, (max(1, window[0] // 2), max(1, window[1] // 2))


# Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): attention multiplied over the blocks.
#
# In: an `ExitView` over a ViT and an image. Out: (rows, columns) shares of the patches in what the exit reads.
# R = Π_l (mean over heads of A_l + I) / 2, where I stands for the residual. It does not depend on values, MLPs, bypass,
# predictor and class, so it is not an attribution. What a block takes from tokens of its own comes from no patch and
# counts as nothing: rows of A_l then sum to less than 1.


def rollout(attentions: list[Tensor]) -> Tensor:
    """Rollout of maps (heads, N, N), first block first, rows summing to 1 → (N, N); row i: shares of its sources."""
    total = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for attention in attentions:
        total = (attention.mean(0) + torch.eye(len(total)).to(total)) / 2 @ total
    return total


def roll_out(view: ExitView, image: Tensor) -> Array:
    """Rollout from the class token under an exit to the patches: (rows, columns), summing to at most 1.

    From the class token where there is one, whatever the exit's predictor reads; else from the mean patch.

    Raises:
        ValueError: a backbone whose attention does not cover all tokens (windows, convolutions), or blocks of
            unequal numbers of tokens.
    """
    stage = view.model.stages[view.exit]
    if any(s.layout != "tokens" for s in view.model.stages):
        raise ValueError(
            "attention_rollout multiplies attention between all tokens, block by block; this backbone keeps maps "
            "(convolutions or attention inside windows), where there is none. Use 'integrated_gradients' or 'occlusion'"
        )
    maps = attention_maps(view, image)
    if not maps:
        raise ValueError("attention_rollout finds no attention (qkv, attn_drop) under this exit")
    if len({attention.shape[-1] for attention in maps}) > 1:
        raise ValueError(
            "attention_rollout multiplies attention between the same tokens in all blocks; in this model their number "
            "changes on the way. Use 'integrated_gradients' or 'occlusion'"
        )
    N = stage.prefix + stage.grid[0] * stage.grid[1]
    shares = rollout([attention[:, :N, :N] for attention in maps])
    read = shares[0] if stage.class_token else shares[stage.prefix :].mean(0)
    patches: Array = read[stage.prefix :].reshape(stage.grid).float().cpu().numpy()
    return patches


@torch.no_grad()
def attention_maps(view: ExitView, image: Tensor) -> list[Tensor]:
    """Attention of every block under the exit, (heads, N, N) each, as the model computes it (`attention_weights`)."""
    trunks = [stage.trunk for stage in view.model.stages[: view.exit + 1]]
    with attention_weights((view.model.embed, *trunks)) as seen:
        view(image)
    return [attention[0] for attention in seen]


# Catalogue of attribution methods: a line for each, and the methods that are refused.
#
# A new method is a function `Query` → `HeatMap` and one line in `METHODS`. `REFUSED` lists methods that give misleading
# maps of these models, each with the reason.


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Args:
        explain: the method. unit: of the values. rows: number of images that run through the model, for progress.
        additive: whether the values add up to the logit difference within the convergence delta.
        is_attribution: False if the map depends on neither class nor predictor.
    """

    explain: Callable[[Query], HeatMap]
    unit: str
    rows: Callable[[Query], int]
    additive: bool = False
    is_attribution: bool = True


def attention_rollout(query: Query) -> HeatMap:
    """Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928) up to the exit; see `rollout`."""
    tokens = roll_out(query.view, query.image)
    return HeatMap(to_pixels(tokens, query.side), tokens, np.zeros(0, np.float32))


def _one(query: Query) -> int:
    return 1


def _path(query: Query) -> int:
    return query.steps + 6


_LOGIT, _DROP, _FIRST_ORDER = "logit", "drop of the logit", "logit, to first order"
METHODS: dict[str, Method] = {
    "integrated_gradients": Method(integrated_gradients, _LOGIT, _path, additive=True),
    "gradient_shap": Method(gradient_shap, _LOGIT, lambda query: 3 * query.steps + 2, additive=True),
    "saliency": Method(saliency, "logit per unit of input", _one),
    "input_x_gradient": Method(input_x_gradient, _FIRST_ORDER, _one),
    "occlusion": Method(occlusion, _DROP, occlusion_rows),
    "feature_ablation": Method(feature_ablation, _DROP, lambda query: query.grid[0] * query.grid[1] + 1),
    "layer_integrated_gradients": Method(layer_integrated_gradients, _LOGIT, _path, additive=True),
    "token_grad_cam": Method(token_grad_cam, _FIRST_ORDER, lambda query: 2),
    "attention_rollout": Method(attention_rollout, "share of attention", _one, is_attribution=False),
}

_DEEP_LIFT = (
    "DeepLift's rules cover layers that act on one number at a time. LayerNorm, attention, softmax and covariances "
    "combine numbers, so its maps of these models are incorrect. Use 'integrated_gradients'"
)
REFUSED: dict[str, str] = {
    "deep_lift": _DEEP_LIFT,
    "deep_lift_shap": _DEEP_LIFT,
    "lrp": "layer-wise relevance propagation has no rule for LayerNorm, GELU and attention and stops at the first of "
    "them. Use 'integrated_gradients'",
    "layer_grad_cam": "LayerGradCam takes dimension 1 as channels, but here it holds the tokens: the tokens are "
    "averaged away and no map remains. Use 'token_grad_cam'",
}

"""Gradient methods in token space: layer integrated gradients and Grad-CAM on tokens.

In: a `Query`, whose ``layer`` is a block number. Out: a `HeatMap` on the token grid of that layer.
"""

from __future__ import annotations

from captum.attr import LayerIntegratedGradients
from torch import Tensor

from .layers import activations, readable_layer
from .query import HeatMap, Query, refine, token_map


def layer_integrated_gradients(query: Query) -> HeatMap:
    """Integrated gradients from the baseline's tokens to the image's tokens after a block, by Captum.

    Steps are doubled as in `gradients.integrated_gradients`.

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

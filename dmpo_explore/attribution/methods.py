"""Catalogue of attribution methods: a line for each, and the methods that are refused.

A new method is a function `Query` → `HeatMap` and one line in `METHODS`. `REFUSED` lists methods that give misleading
maps of these models, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .cells import to_pixels
from .gradients import gradient_shap, input_x_gradient, integrated_gradients, saliency
from .perturbation import feature_ablation, occlusion, occlusion_rows
from .query import HeatMap, Query
from .rollout import roll_out
from .token_gradients import layer_integrated_gradients, token_grad_cam


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


def _two(query: Query) -> int:
    return 2


def _path(query: Query) -> int:
    return query.steps + 6


def _samples(query: Query) -> int:
    return 3 * query.steps + 2


def _cells(query: Query) -> int:
    return query.grid[0] * query.grid[1] + 1


_LOGIT, _DROP, _FIRST_ORDER = "logit", "drop of the logit", "logit, to first order"
METHODS: dict[str, Method] = {
    "integrated_gradients": Method(integrated_gradients, _LOGIT, _path, additive=True),
    "gradient_shap": Method(gradient_shap, _LOGIT, _samples, additive=True),
    "saliency": Method(saliency, "logit per unit of input", _one),
    "input_x_gradient": Method(input_x_gradient, _FIRST_ORDER, _one),
    "occlusion": Method(occlusion, _DROP, occlusion_rows),
    "feature_ablation": Method(feature_ablation, _DROP, _cells),
    "layer_integrated_gradients": Method(layer_integrated_gradients, _LOGIT, _path, additive=True),
    "token_grad_cam": Method(token_grad_cam, _FIRST_ORDER, _two),
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

"""Perturbation methods: occlusion and feature ablation, by Captum.

In: a `Query`. Out: a `HeatMap` of how much the logit drops where the image shows the baseline.
"""

from __future__ import annotations

import torch
from captum.attr import FeatureAblation, Occlusion

from .cells import cell_index
from .query import HeatMap, Query, pixel_map


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

"""Defaults that follow the backbone: the image size that it takes, and exits that are cheap beside its trunk.

In: a `ModelConfig` and what was chosen on purpose. Out: the config with the rest fitted. The two backbones of our
studies keep the defaults that these were made with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..pretrained.wheels import SOURCES
from ..utils.registry import lookup, python_function
from ..utils.torch_tools import seeded
from .backbone import ExitShape
from .bypass import BYPASSES
from .counting import count_flops
from .dmpo import DMPO
from .factory import build_reference, for_shapes, read_of
from .own import own_defaults
from .predictors import PREDICTORS
from .timm_backbones import nearest_size

MOST = 1.05  # of the plain backbone's FLOPs, what the last exit costs with all that ran before it
SIZES = ((48, 64), (32, 40), (24, 32), (16, 20), (12, 16), (8, 10), (6, 8), (4, 5), (2, 2))  # channels, bypass_width
ASIDE_CLASSES = 10  # for which the exits are counted


def fitted(config: ModelConfig, chosen: Collection[str] = (), *, blocks: int | None = None) -> ModelConfig:
    """The config with image size, channels and bypass width that suit its backbone.

    The side of the images becomes the nearest that the backbone takes, channels and bypass width the largest with which
    the last exit costs at most 105 % of the plain backbone. One that was cut by hand keeps its exits.

    Args:
        chosen: names of options that stay as they are.
        blocks: of the backbone that the config's exits were chosen for: another one has them at the same shares of its
            depth; None: they stay.

    Raises:
        ValueError: as `build_reference`.
    """
    suits: dict[str, Any] = {}
    if python_function(config.backbone):
        suits = own_defaults(config)
    elif "image_size" not in chosen and config.backbone not in SOURCES:
        suits = {"image_size": nearest_size(config.backbone, config.image_size)}
    stays = {*chosen} | ({"exits"} if config.exits != ModelConfig.exits and not blocks else set())
    config = replace(config, **{name: value for name, value in suits.items() if name not in stays})
    if blocks and "exits" not in {*stays, *suits}:
        config = replace(config, exits=_at_shares(config, blocks))
    if config.backbone in SOURCES:
        return config
    if {"channels", "bypass_width"} & {*chosen} or (config.channels, config.bypass_width) != SIZES[0]:
        return config
    with for_shapes(config):
        reference = build_reference(config, ASIDE_CLASSES).eval()
        plain = count_flops(_run_plain, reference, torch.zeros(1, 3, config.image_size, config.image_size))
    n_exits = config.exits if isinstance(config.exits, int) else len(config.exits)
    shapes = [stage.shape for stage in reference.stages[:n_exits]]
    with seeded(0):
        tried = [replace(config, channels=channels, bypass_width=width) for channels, width in SIZES]
        return next((one for one in tried if exits_cost(one, shapes) <= (MOST - 1) * plain), tried[-1])


def _at_shares(config: ModelConfig, blocks: int) -> tuple[int, ...] | int:
    """The config's exits, which were chosen for a backbone of ``blocks`` blocks, at the same shares of its own."""
    if isinstance(config.exits, int):
        return config.exits
    with for_shapes(config):
        depth = build_reference(replace(config, exits=1), ASIDE_CLASSES).exits[-1]
    return tuple(sorted({max(1, round(block * depth / blocks)) for block in config.exits}))


def _run_plain(reference: DMPO, images: Tensor) -> Tensor:
    """Embedding, trunks and the last predictor, also on the device meta."""
    state = reference.embed(images)
    for stage in reference.stages:
        state = stage.trunk(state)
    return reference.stages[-1].predict(state)[0]


def exits_cost(config: ModelConfig, shapes: Sequence[ExitShape]) -> int:
    """FLOPs of all exits' bypasses and predictors for one image, without a linear last predictor: the plain backbone
    has that too."""
    *early, last = shapes
    found = sum(_exit_cost(config, shape, config.bypass, config.predictor) for shape in early)
    return found + _exit_cost(config, last, config.last_bypass, config.last_predictor, "last_")


def _exit_cost(config: ModelConfig, shape: ExitShape, bypass: str, predictor: str, place: str = "") -> int:
    found = count_flops(lookup(BYPASSES, bypass, f"{place}bypass").at(shape, config), _tokens(shape))
    if not (place and predictor == "linear"):
        fits = replace(config, channels=min(config.channels, shape.width))
        made = lookup(PREDICTORS, predictor, f"{place}predictor").at(shape, ASIDE_CLASSES, fits, read_of(config, shape))
        found += count_flops(made.eval(), _tokens(shape))
    return found


def _tokens(shape: ExitShape) -> Tensor:
    return torch.zeros(1, shape.prefix + shape.grid[0] * shape.grid[1], shape.width)

"""Whether a config can be trained at all, found without its weights and data.

In: a config. Out: the reason why not, as `build_model` and the training's parts word it.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import Config
from ..data.images import load_images
from ..models.factory import build_model
from ..utils.torch_tools import seeded
from .kinds import PartSetup, make_parts


def refusal(config: Config) -> str:
    """Why a model of this config cannot be built or trained; empty if it can. Weights are random, and nothing is read.

    Example:
        >>> import dmpo_explore as dx
        >>> refusal(dx.Config(model=dx.ModelConfig("resnet10t", "random", 32, exits=2, tuning="vpt")))
        "tuning='vpt' ..."
    """
    images = load_images("digits", "train")  # parts look at their classes at most
    try:
        with seeded(0):
            model = build_model(replace(config.model, weights="random"), len(images.class_names))
            make_parts(PartSetup(config, model, images, images, keeps=False))
    except ValueError as error:
        return str(error)
    return ""

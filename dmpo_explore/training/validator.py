"""Validation after an epoch: a model → accuracy of every exit and area on fixed images."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..analysis.metrics import area
from ..config import Config
from ..data.images import ImageSet
from ..data.torch_loaders import make_loader
from ..inference.torch_recording import RECORD_BATCH, record_meta, record_split
from ..models.dmpo import DMPO
from ..models.flops import ModelFlops
from .earlier_exits import fit_earlier_exits
from .loop import Validation


class Validator:
    """Model → accuracy per exit and area on fixed validation images.

    Before, the weights of earlier exits' answers are fitted where ``held_out`` training images are given.
    """

    def __init__(
        self, images: ImageSet, config: Config, model: DMPO, cost: ModelFlops, held_out: ImageSet | None = None
    ) -> None:
        held_out = held_out if config.model.earlier_exits else None
        self.loader = make_loader(images, model.preprocess, batch_size=RECORD_BATCH)
        self.held_out = None if held_out is None else make_loader(held_out, model.preprocess, batch_size=RECORD_BATCH)
        self.meta = record_meta(config, images, model, cost)
        self.precision = config.training.precision

    def __call__(self, model: nn.Module) -> Validation:
        assert isinstance(model, DMPO)
        where = "held-out training images"
        try:
            if self.held_out is not None:
                fit_earlier_exits(model, self.held_out, precision=self.precision)
            where = "val"
            record = record_split(model, self.loader, self.meta, precision=self.precision, keep_logits=False)
        except ValueError as error:
            cause = "training diverged in the last steps of the epoch; lower the learning rates"
            raise FloatingPointError(f"on {where} {error}: {cause}") from None
        return Validation(tuple(record.correct.mean(axis=0).tolist()), area(record, "confidence"), record)


def spread(images: ImageSet, size: int) -> ImageSet:
    """At most ``size`` of the images, evenly spread over the classes."""
    if len(images) <= size:
        return images
    order = np.argsort(images.labels, kind="stable")
    return images.subset(np.sort(order[np.linspace(0, len(order) - 1, size).astype(int)]))

"""Validation after an epoch: a model → accuracy of every exit and area on fixed images."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..analysis.metrics import area
from ..config import Config
from ..data.image_set import ImageSet
from ..inference.torch_recording import NotFiniteError, record_meta, record_split, recording_loader
from ..models.dmpo import DMPO
from ..models.flops import ModelFlops
from ..records.record import RecordMeta
from .loop import Validation


class Validator:
    """Model → accuracy per exit and area on fixed validation images."""

    def __init__(self, images: ImageSet, config: Config, model: DMPO, cost: ModelFlops) -> None:
        self.images = images
        self.meta = record_meta(config, images, model, cost)
        RecordMeta.from_dict(self.meta.to_dict(), "meta")  # now, and not after the first epoch
        self.precision = config.training.precision

    def __call__(self, model: nn.Module) -> Validation:
        assert isinstance(model, DMPO)
        try:
            loader = recording_loader(self.images, model)
            record = record_split(model, loader, self.meta, precision=self.precision, keep_logits=False)
        except NotFiniteError as error:
            raise diverged("val", error) from None
        return Validation(tuple(record.correct.mean(axis=0).tolist()), area(record, "confidence"), record)


def diverged(where: str, error: NotFiniteError) -> FloatingPointError:
    """What to raise for answers that are not finite; ``where``: the images."""
    cause = "training diverged in the last steps of the epoch; lower the learning rates"
    return FloatingPointError(f"on {where} {error}: {cause}")


def spread(images: ImageSet, size: int) -> ImageSet:
    """At most ``size`` of the images, evenly spread over the classes."""
    if len(images) <= size:
        return images
    order = np.argsort(images.labels, kind="stable")
    return images.subset(np.sort(order[np.linspace(0, len(order) - 1, size).astype(int)]))

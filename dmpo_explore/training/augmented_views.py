"""Augmented views of a training's images: a new one in every epoch, and the targets of images that are mixed."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import one_hot

from ..config import Config
from ..data.torch_loaders import Views
from ..utils.typing import Ints
from .part_options import AugmentationOptions, TeacherOptions, n_views
from .parts import Batch, TrainingPart


def make_views(config: Config, n_images: int) -> Views | None:
    """The views of a training's images; None for one that draws flips and crops from torch's global generator.

    With a teacher their seed is that of the data: trainings that differ in their own seed share its answers.
    """
    settings = config.training
    kind = settings.part(AugmentationOptions).augment
    mixes = kind == "strong"
    if settings.part(TeacherOptions).teacher:
        return Views(n_images, seed=config.data.seed, count=n_views(settings), mixes=mixes)
    return None if kind == "none" else Views(n_images, seed=settings.seed, mixes=mixes)


class AugmentedViews(TrainingPart):
    """Lets every epoch show its view, and gives mixed images their targets.

    Args:
        views: what the loader shows. labels: (n,) of all images. n_classes: C.
        answered: a teacher answers the mixed images, so they have no label; else they have a share of two.
    """

    def __init__(self, views: Views, labels: Ints, n_classes: int, *, answered: bool) -> None:
        self.shown, self.n_classes, self.answered = views, n_classes, answered
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, np.int64))

    def before_epoch(self, epoch: int) -> None:
        """The epoch's view."""
        self.shown.begin(epoch)

    def views(self, batch: Batch) -> Batch:
        """The batch with probabilities in place of the labels, or with fewer labelled images."""
        if not self.shown.mixes:
            return batch
        assert batch.indices is not None
        mixtures = [self.shown.mixture(row) for row in batch.indices.tolist()]
        if self.answered:
            single = torch.tensor([mixture is None for mixture in mixtures], device=batch.labels.device)
            return batch._replace(labelled=single if batch.labelled is None else batch.labelled & single)
        partners = self.labels[[0 if mixture is None else mixture.partner for mixture in mixtures]]
        shares = torch.tensor([1.0 if mixture is None else mixture.share for mixture in mixtures])
        own, others = (one_hot(labels, self.n_classes).float() for labels in (batch.labels.clamp(min=0), partners))
        return batch._replace(targets=torch.lerp(others.to(own.device), own, shares.to(own.device)[:, None]))

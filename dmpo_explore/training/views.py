"""Views of a batch: the images, perhaps once more with patches hidden, and an anchor's answers to each.

In: images (B,3,S,S) and labels (B,) of a step. Out: `Batch` of one or two views of every image. As in OrthSR (Li et al.
2024, arXiv 2407.08374): CE(x) + CE(cut x) + λ·KL + λ·KL. Ours: one λ for both, each view is compared with the anchor's
answer to that view, and the mean over the views takes the place of their sum, so that the loss keeps its size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import TrainingConfig
from ..models.dmpo import DMPO
from .cutout import check_cutout, hide, scores


class Batch(NamedTuple):
    """Images (V·B,3,S,S), labels (V·B,), and the anchor's logits (V·B,K,C) or None; V views."""

    images: Tensor
    labels: Tensor
    anchors: Tensor | None = None


class Views:
    """Maker of a training's batches.

    Args:
        anchor: the untuned model on the images' device; it is needed for every option but ``cutout="none"`` without
            self-regularisation.

    Raises:
        ValueError: a cutout that the model does not serve.
    """

    def __init__(self, config: TrainingConfig, anchor: DMPO) -> None:
        check_cutout(config.cutout, anchor)
        self.cutout, self.answers = config.cutout, config.self_regularise > 0
        self.anchor = anchor.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """The batch of a step; under the caller's autocast."""
        if self.cutout == "none":
            return Batch(images, labels, self.anchor(images))
        found, logits = scores(self.cutout, images, self.anchor)
        cut = hide(images, found, self.anchor.stages[-1].grid)
        both, targets = torch.cat((images, cut)), torch.cat((labels, labels))
        if not self.answers:
            return Batch(both, targets)
        if logits is None:
            return Batch(both, targets, self.anchor(both))
        return Batch(both, targets, torch.cat((logits, self.anchor(cut))))

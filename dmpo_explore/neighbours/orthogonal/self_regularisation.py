"""Self-regularisation: the images, perhaps once more with patches hidden, and an anchor's answers to each.

In: the batch of a step. Out: one or two views of every image, and a loss that draws the answers towards the anchor's.
As in OrthSR (Li et al. 2024, arXiv 2407.08374): CE(x) + CE(cut x) + λ·KL + λ·KL. Ours: one λ for both, each view is
compared with the anchor's answer to that view, and the mean over the views takes the place of their sum, so that the
loss keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...data.torch_loaders import make_loader
from ...inference.torch_recording import RECORD_BATCH
from ...models.dmpo import DMPO
from ...training.kinds import PartSetup
from ...training.losses import divergence
from ...training.parts import Batch, TrainingContext, TrainingPart
from ...training.validator import spread
from .anchor import MOST, fit_anchor, make_anchor
from .cutout import check_cutout, hide, scores


class SelfRegularisation(TrainingPart):
    """Views with hidden patches, and the divergence from an anchor.

    Args:
        anchor: the untuned model. weight: λ; 0: views alone. cutout: none, random or attentive.
        images: batches that the anchor's heads are fitted on when a training begins; None: they are fitted already.
        precision: of autocast, for the fit.

    Raises:
        ValueError: a cutout that the model does not serve.

    Example:
        >>> import dmpo_explore as dx
        >>> anchor = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="none"), n_classes=3)
        >>> part = SelfRegularisation(anchor, weight=1.0, cutout="random")
        >>> batch = part.views(Batch(torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)))
        >>> batch.images.shape, batch.labels.shape, batch.notes["anchor"].shape
        (torch.Size([8, 3, 32, 32]), torch.Size([8]), torch.Size([8, 2, 3]))
    """

    name = "anchor"

    def __init__(
        self, anchor: DMPO, weight: float, cutout: str = "none", images: Iterable[Any] | None = None,
        precision: str = "no",
    ) -> None:  # fmt: skip
        check_cutout(cutout, anchor)
        self.anchor, self.weight, self.cutout = anchor.eval(), weight, cutout
        self.images, self.precision = images, precision

    def begin(self, context: TrainingContext) -> None:
        """A new training fits the anchor's heads; a resumed one takes those of its checkpoint. No run stores them."""
        self.anchor.to(context.accelerator.device)
        if self.weight and self.images is not None and not context.resumed:
            fit_anchor(self.anchor, self.images, precision=self.precision)

    @torch.no_grad()
    def views(self, batch: Batch) -> Batch:
        """The batch, perhaps with a cut view of every image, and the anchor's answers."""
        if self.cutout == "none":
            return self._answered(batch, self.anchor(batch.images))
        found, logits = scores(self.cutout, batch.images, self.anchor)
        cut = hide(batch.images, found, self.anchor.stages[-1].grid)
        both = batch.with_view(cut)
        if not self.weight:
            return both
        return self._answered(
            both, self.anchor(both.images) if logits is None else torch.cat((logits, self.anchor(cut)))
        )

    def _answered(self, batch: Batch, answers: Tensor) -> Batch:
        return batch._replace(notes={**batch.notes, self.name: answers})

    def losses(self, batch: Batch, outputs: Tensor) -> Tensor | None:
        """λ · `divergence`, (b,K)."""
        return self.weight * divergence(outputs, batch.notes[self.name]) if self.weight else None

    def state_dict(self) -> Mapping[str, Any]:
        """The fitted heads."""
        return {name: value.cpu() for name, value in self.anchor.trainable_state().items()} if self.weight else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over fitted heads."""
        self.anchor.load_trainable(dict(state))


def make_part(setup: PartSetup, weight: float, cutout: str) -> SelfRegularisation:
    """The part of a training, with an anchor that is fitted on at most `MOST` of its images."""
    anchor = make_anchor(setup.config, len(setup.images.class_names))
    loader = make_loader(spread(setup.images, MOST), anchor.preprocess, batch_size=RECORD_BATCH)
    return SelfRegularisation(anchor, weight, cutout, loader, setup.config.training.precision)

"""Training parts: what a training does beside the loss of its labels, one object for each.

`fit` takes a list of `TrainingPart` and names none of them. A part may add images, views of a batch, terms of the loss
and learning rates; its methods are called when an epoch begins, after each step and once the epoch is trained. Its
state goes into the checkpoint. `kinds.TRAINING_PARTS` has the kinds of parts, from which those of a config are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Sampler

from ..config import TrainingConfig
from ..data.image_set import ImageSet
from ..utils.typing import Ints
from .schedules import Depths, loss_weights


class Batch(NamedTuple):
    """The images of a step and what is known of each.

    Args:
        images: (b,3,S,S). labels: (b,) int64; `dmpo_explore.data.labels.MISSING` where an image has none.
        indices: (b,) int64, rows of the training's images (`TrainingPart.sources` follow the labelled ones); None where
            the loader gives none.
        labelled: (b,) bool; None: all are.
        targets: (b,C) probabilities in place of the labels, where a part mixes images; None: the labels.
        notes: part's name → (b,…), what its `TrainingPart.views` found, for its losses.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None
    labelled: Tensor | None = None
    targets: Tensor | None = None
    notes: Mapping[str, Tensor] = {}

    def with_view(self, images: Tensor) -> Batch:
        """This batch and after it the same images once more, as other pixels (b,3,S,S).

        Example:
            >>> twice = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([4, 5])).with_view(torch.ones(2, 3, 8, 8))
            >>> twice.images.shape, twice.labels.tolist()
            (torch.Size([4, 3, 8, 8]), [4, 5, 4, 5])
        """
        parts = {name: part for name, part in self._asdict().items() if isinstance(part, Tensor)}
        twice = {name: torch.cat((part, images if name == "images" else part)) for name, part in parts.items()}
        return self._replace(**twice, notes={name: torch.cat((note, note)) for name, note in self.notes.items()})


@dataclass(frozen=True)
class TrainingContext:
    """The training that a part belongs to.

    Args:
        model: as it was given to `fit`. depths: (K,) of its exits, see `schedules`. steps: batches of an epoch.
        criterion: (batch, what a model gives for it) → (K,) mean losses of the exits, the terms of all parts included.
        resumed: whether `TrainingPart.load_state_dict` follows, with what the part has kept.

    Example:
        >>> import dmpo_explore as dx
        >>> class Noting(TrainingPart):
        ...     def begin(self, context):
        ...         print(context.n_exits, context.steps, context.resumed)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Unflatten(1, (2, 3)))
        >>> loader = torch.utils.data.DataLoader([(torch.ones(3, 2, 2), 1) for _ in range(8)], batch_size=4)
        >>> settings, seen = dx.TrainingConfig(epochs=1, precision="no"), dx.training.Validation((0.5, 0.75), 0.6)
        >>> _ = list(dx.training.fit(model, loader, settings, 2, validate=lambda model: seen, parts=[Noting()]))
        2 2 False
    """

    model: nn.Module
    depths: tuple[float, ...]
    config: TrainingConfig
    accelerator: Accelerator
    steps: int
    criterion: Callable[[Batch, Any], Tensor]
    resumed: bool

    @property
    def n_exits(self) -> int:
        """K."""
        return len(self.depths)

    def planned_weights(self, epoch: int) -> tuple[float, ...]:
        """`planned_weights` of an epoch."""
        return planned_weights(self.config, self.depths, epoch)


def planned_weights(config: TrainingConfig, depths: Depths, epoch: int) -> tuple[float, ...]:
    """(K,) what a config's schedule plans for an epoch, counted from 0; raises as `loss_weights`.

    Args:
        depths: (K,) of the exits, see `schedules`.
    """
    how, K = config, len(depths)
    return loss_weights(how.schedule, epoch, how.epochs, K, phase_ratio=how.phase_ratio, depths=depths)


class TrainingPart:
    """A part of a training that does nothing; subclasses override what they need.

    ``outputs`` is what the model gives for the images of a batch: logits (b,K,C). Loss terms are computed in float32
    outside of autocast. Whatever is random is drawn from torch's global generator, which every epoch seeds, or from a
    generator that depends on the epoch alone; then a resumed training is bit-equal.

    Attributes:
        name: under which a checkpoint keeps its state.
        weighs: whether it gives the exits' loss weights, in place of the config's schedule.
        alone: whether no other part may add images, since it knows each image by its row.

    Example:
        A penalty on large logits, its weight a number of this part:

        >>> class SmallLogits(TrainingPart):
        ...     def losses(self, batch, outputs):
        ...         return 0.01 * outputs.square().mean(dim=-1)
        >>> SmallLogits().losses(Batch(torch.zeros(1, 3, 8, 8), torch.tensor([0])), torch.ones(1, 2, 10))
        tensor([[0.0100, 0.0100]])
    """

    name: str = ""
    weighs: bool = False
    alone: bool = False

    # -- before the first epoch --

    def sources(self) -> Sequence[ImageSet]:
        """Further images to train on; their labels may be `MISSING`: the loss of labels leaves these out."""
        return ()

    def sampler(self, labels: Ints) -> Sampler[int] | None:
        """Which rows an epoch reads, in order; None: all, shuffled. labels: (n,) of all images, sources included."""
        return None

    def begin(self, context: TrainingContext) -> None:
        """Called once, before the first epoch."""

    def copies(self) -> tuple[nn.Module, ...]:
        """Further networks that are trained beside the model, each by the model's rates and clipping."""
        return ()

    def state_dict(self) -> Mapping[str, Any]:
        """What the next epoch needs: tensors, numbers, texts, lists and dicts of them; empty: nothing is kept."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave after an earlier epoch."""

    def prepare(self) -> None:
        """Called once all parts have begun and have what they kept: what takes long, and refuses nothing."""

    # -- of an epoch --

    def before_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, counted from 0, once random numbers are seeded."""

    def after_epoch(self) -> None:
        """Called once an epoch is trained, before its validation, in every process."""

    def rates(self, epoch: float) -> Mapping[str, float]:
        """Learning rates over their peaks at this time, for ``trunk`` or ``exits``; those left out keep the cosine.

        ``epoch`` counts from 0 and grows with every step.
        """
        return {}

    # -- of a step --

    def views(self, batch: Batch) -> Batch:
        """The batch that is trained on, under autocast; see `Batch.with_view`."""
        return batch

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The input of each of the `copies`."""
        return ()

    def label_losses(self, batch: Batch, outputs: Any) -> Tensor | None:
        """(b,K) in place of the config's loss of the labels; None: the config's."""
        return None

    def losses(self, batch: Batch, outputs: Any) -> Tensor | None:
        """(b,K) to add to the loss of every image at every exit, before the exits are weighted."""
        return None

    def image_weights(self, batch: Batch) -> Tensor | None:
        """(b,) factors of the images' losses, all terms included; the mean is over images, not over weights."""
        return None

    def loss(self, batch: Batch, outputs: Any) -> Tensor | None:
        """A term beside the weighted losses of the exits, a scalar."""
        return None

    def copies_loss(self, batch: Batch, outputs: tuple[Any, ...], losses: Tensor) -> Tensor:
        """What the `copies` minimise, from their outputs; ``losses`` (K,) are the model's own, without gradients."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each optimizer step."""

    def weights(self) -> Tensor:
        """(K,) loss weights of the next step, if it `weighs`."""
        raise NotImplementedError

    def mean_weights(self) -> tuple[float, ...]:
        """(K,) the mean of the epoch's weights, if it `weighs`."""
        raise NotImplementedError

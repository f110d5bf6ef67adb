"""Losses: logits (B, K, C) and labels (B,) in, their weighted sum out; and weights for classes of unequal size.

Losses: logits (B, K, C) and labels (B,) in, one loss per exit (K,) and their weighted sum out.
L = Σ_k λ_k ℓ_k. ℓ_k is cross-entropy, of smoothed labels where wanted (Szegedy et al. 2016), or the release's coupled
form (DMPO, arXiv 2511.03245), in which images that the previous exit classifies correctly count less at the next one.
Either may be blended with distillation from the last exit (Zhang et al. 2019, "Be Your Own Teacher"). Other terms are
those of training parts (`parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Sampler, WeightedRandomSampler

from ..config import TrainingConfig
from ..data.image_set import ImageSet
from ..models.predictors import at_least_float32
from ..utils.registry import lookup
from ..utils.typing import Floats, Ints
from .parts import Batch, TrainingContext, TrainingPart

if TYPE_CHECKING:
    from ..config import TrainingConfig
    from .parts import Batch


def cross_entropies(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every image at every exit: (B, K, C), (B,) → (B, K), in float32 (nats).

    Args:
        labels: (B,) int64, or (B, C) probabilities.
        smoothing: share of the target that is spread evenly over all classes.
    """
    B, K, _C = logits.shape
    wide = at_least_float32(logits)
    targets = labels.repeat_interleave(K, dim=0)
    return F.cross_entropy(wide.flatten(0, 1), targets, reduction="none", label_smoothing=smoothing).view(B, K)


def uncoupled(losses: Tensor) -> Tensor:
    """(B, K) → (B, K) unchanged: the exits are independent."""
    return losses


def sigmoid_coupled(losses: Tensor) -> Tensor:
    """(B, K) → (B, K): sigmoid(CE_{k-1}) · CE_k per image for k ≥ 2; not detached, exit 1 unchanged (release)."""
    return torch.cat((losses[:, :1], losses[:, :-1].sigmoid() * losses[:, 1:]), dim=1)


COUPLINGS: dict[str, Callable[[Tensor], Tensor]] = {"none": uncoupled, "sigmoid": sigmoid_coupled}


def distillation(logits: Tensor) -> Tensor:
    """Self-distillation loss: cross-entropy of every early exit against the last exit's probabilities.

    (B, K, C) → (B, K-1). No gradient reaches the last exit.

    Example:
        >>> distillation(torch.zeros(1, 3, 2)).shape
        torch.Size([1, 2])
    """
    wide = at_least_float32(logits)
    teacher = wide[:, -1:].detach().softmax(dim=-1)  # (B, 1, C)
    return -(teacher * wide[:, :-1].log_softmax(dim=-1)).sum(dim=-1)


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence T² · KL(wanted ‖ own) at every exit: (B, K, C), (B, K, C) → (B, K), float32 (nats).

    Args:
        temperature: T, which divides both logits; with the factor T² gradients keep their size (Hinton et al. 2015).
    """
    own, other = (at_least_float32(x) / temperature for x in (logits, wanted))
    losses = F.kl_div(own.log_softmax(dim=-1), other.log_softmax(dim=-1), reduction="none", log_target=True)
    return temperature**2 * losses.sum(dim=-1)


def image_losses(
    logits: Tensor,
    labels: Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
    *,
    labelled: Tensor | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """Loss of every image at every exit: logits (B, K, C), labels (B,) int64 → (B, K).

    Args:
        distill: share α in [0, 1] of an early exit's loss that is `distillation`, the rest is ℓ_k.
        label_smoothing: share in [0, 1] of every target that is spread evenly over the classes; coupling reads the
            smoothed losses.
        labelled: (B,) bool; the losses of the others are 0, whatever their labels. targets: (B, C) probabilities that
            take the place of the labels.

    Raises:
        ValueError: unknown coupling.
    """
    couple = lookup(COUPLINGS, coupling, "coupling")
    known = labels if labelled is None else labels.where(labelled, 0)
    losses = couple(cross_entropies(logits, known if targets is None else targets, label_smoothing))
    if distill:
        early = torch.lerp(losses[:, :-1], distillation(logits), distill)
        losses = torch.cat((early, losses[:, -1:]), dim=1)
    return losses if labelled is None else losses.where(labelled[:, None], 0.0)


def label_losses(outputs: Tensor, batch: Batch, config: TrainingConfig) -> Tensor:
    """(b, K) what a training's config makes of the labels of a batch, see `image_losses`."""
    return image_losses(
        outputs, batch.labels, config.coupling, config.distill, config.label_smoothing, labelled=batch.labelled,
        targets=batch.targets,
    )  # fmt: skip


def exit_losses(
    logits: Tensor,
    labels: Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean loss of every exit: logits (B, K, C), labels (B,) int64 → (K,).

    Args:
        coupling, distill, label_smoothing: as a config's; coupling reads the smoothed losses, distillation is blended
            in afterwards.

    Raises:
        ValueError: unknown coupling.

    Example:
        >>> [round(loss, 4) for loss in exit_losses(torch.zeros(4, 2, 10), torch.arange(4)).tolist()]
        [2.3026, 2.3026]
    """
    return image_losses(logits, labels, coupling, distill, label_smoothing).mean(dim=0)


def weighted_sum(losses: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """Σ_k λ_k ℓ_k of (K,) losses."""
    return (losses * torch.as_tensor(weights, dtype=losses.dtype, device=losses.device)).sum()


def weighted_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Sequence[float] | Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Σ_k λ_k ℓ_k and its parts: logits (B, K, C), labels (B,), weights (K,) → scalar, (K,) losses without λ.

    Raises:
        ValueError: as `exit_losses`; not one weight per exit.

    Example:
        >>> loss, parts = weighted_loss(torch.zeros(4, 2, 10), torch.arange(4), [0.5, 1.5])
        >>> round(loss.item(), 4), parts.shape
        (4.6052, torch.Size([2]))
    """
    parts = exit_losses(logits, labels, coupling, distill, label_smoothing)
    return weighted_sum(parts, weights), parts


# Class balance: weights of the loss, or a sampler, for classes of unequal size.
#
# In: training images of each class, or labels. Out: `class_weights` (C,), and `BalancedSampler`, which draws an image
# with a probability in proportion to its class's weight. Both follow the effective number of images of Cui et al. 2019
# ("Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555).

MIXED = "class balance"  # note of a batch: the weights of its mixed images


def class_weights(counts: npt.ArrayLike, beta: float = 1.0) -> Floats:
    """Weight of each class: the inverse of its effective number of images, (1 − β) / (1 − β^n), scaled.

    At β = 1 this is the limit 1 / n, the inverse frequency; at β = 0 all classes have the same weight.

    Ours: scaled so that the mean weight over the training images is 1 (Cui et al.: over the classes), which at β = 1 is
    scikit-learn's ``balanced``. The loss keeps its size, so learning rates keep their meaning.

    Args:
        counts: (C,) training images of each class. beta: β in [0, 1].

    Returns:
        (C,) float64; 0 for a class without training images.

    Example:
        >>> class_weights([30, 10]).round(4).tolist()  # every class sums up to 20
        [0.6667, 2.0]
        >>> class_weights([30, 10], beta=0).tolist()
        [1.0, 1.0]
    """
    sizes = np.asarray(counts, np.float64)
    some = sizes > 0
    effective = sizes[some] if beta == 1 else (1 - beta ** sizes[some]) / (1 - beta)
    weights = np.zeros(len(sizes))
    weights[some] = 1 / effective
    weights *= sizes.sum() / (weights * sizes).sum()
    return weights


def loss_class_weights(labels: Ints, n_classes: int, config: TrainingConfig) -> Tensor | None:
    """The (C,) float32 weights of a training's loss; None where ``config`` does not weight it."""
    if config.class_balance != "weights":
        return None
    return torch.from_numpy(class_weights(np.bincount(labels, minlength=n_classes), config.balance_beta)).float()


class BalancedSampler(Sampler[int]):
    """Sampler that draws as many images as there are, with replacement, each in proportion to the weight of its class.

    With β = 1 every class that has an image is expected equally often. The draw depends only on the seed and the
    epoch: it is the same in every process and after a resumption.

    Args:
        labels: (n,) of the training images; one without a label has weight 1.
        beta: β of `class_weights`. seed: of the draws.

    Example:
        >>> sampler = BalancedSampler(np.array([0] * 90 + [1] * 10), seed=0)
        >>> rows = list(sampler)
        >>> len(rows), sum(row >= 90 for row in rows)  # the rare class has a tenth of the images
        (100, 47)
        >>> rows == list(sampler), sampler.set_epoch(1), rows == list(sampler)
        (True, None, False)
    """

    def __init__(self, labels: Ints, *, beta: float = 1.0, seed: int = 0) -> None:
        of_class = class_weights(np.bincount(labels[labels >= 0]), beta)
        self.weights = np.where(labels < 0, 1.0, of_class[labels]).tolist()
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the draw of this epoch; accelerate calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) % 2**63)
        return iter(WeightedRandomSampler(self.weights, len(self), replacement=True, generator=drawn))


class ClassBalance(TrainingPart):
    """The class balance of a training: weights of its loss, or its sampler, by ``config.class_balance``.

    Args:
        images: the training images.
    """

    def __init__(self, images: ImageSet, config: TrainingConfig) -> None:
        self.config = config
        self.of_class = loss_class_weights(images.labels, len(images.class_names), config)

    def begin(self, context: TrainingContext) -> None:
        """The weights go to the training's device."""
        if self.of_class is not None:
            self.of_class = self.of_class.to(context.accelerator.device)

    def sampler(self, labels: Ints) -> BalancedSampler | None:
        """None unless rare classes are drawn more often."""
        if self.config.class_balance != "sampler":
            return None
        return BalancedSampler(labels, beta=self.config.balance_beta, seed=self.config.seed)

    def views(self, batch: Batch) -> Batch:
        """In mixed images every class's share of the target has the weight of that class, and the image their sum."""
        if self.of_class is None or batch.targets is None:
            return batch
        weighted = batch.targets * self.of_class
        total = weighted.sum(dim=1)
        return batch._replace(targets=weighted / total[:, None], notes={**batch.notes, MIXED: total})

    def image_weights(self, batch: Batch) -> Tensor | None:
        """(b,) that of each image's class, of a mixed one its classes'; 1 without a label."""
        if self.of_class is None:
            return None
        weights = batch.notes.get(MIXED, self.of_class[batch.labels])
        return weights if batch.labelled is None else weights.where(batch.labelled, 1.0)

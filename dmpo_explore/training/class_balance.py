"""Class balance: weights of the loss, or a sampler, for classes of unequal size.

In: training images of each class, or labels. Out: `class_weights` (C,), and `BalancedSampler`, which draws an image
with a probability in proportion to its class's weight. Both follow the effective number of images of Cui et al. 2019
("Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler, WeightedRandomSampler

from ..config import TrainingConfig
from ..data.image_set import ImageSet
from ..utils.typing import Floats, Ints
from .parts import Batch, TrainingContext, TrainingPart

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

    Raises:
        ValueError: no image, a negative count, or β outside [0, 1].

    Example:
        >>> class_weights([30, 10]).round(4).tolist()  # every class sums up to 20
        [0.6667, 2.0]
        >>> class_weights([30, 10], beta=0).tolist()
        [1.0, 1.0]
    """
    sizes = np.asarray(counts, np.float64)
    if sizes.ndim != 1 or (sizes < 0).any() or not sizes.sum() > 0:
        raise ValueError(f"counts must be (C,) numbers of images from 0, with at least one image, not {counts!r}")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta!r} must lie in [0, 1]")
    some = sizes > 0
    effective = sizes[some] if beta == 1 else (1 - beta ** sizes[some]) / (1 - beta)
    weights = np.zeros(len(sizes))
    weights[some] = 1 / effective
    weights *= sizes.sum() / (weights * sizes).sum()
    return weights


def loss_class_weights(labels: Ints, n_classes: int, config: TrainingConfig) -> Tensor | None:
    """The (C,) float32 weights of a training's loss; None where ``config`` does not weight it.

    Example:
        >>> loss_class_weights(np.array([0, 0, 0, 1, 1, 1]), 2, TrainingConfig(class_balance="weights"))
        tensor([1., 1.])
    """
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

"""Views: numbered augmentations of images. A view follows from a seed, the image's row and the view's number alone.

In: the row of an image and the view's number. Out: the random numbers of its augmentation, and with which other image
it is mixed. No process, worker or epoch before it changes a view, and it is the same one at any image size: what a
teacher answered is what a student sees.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..utils.torch_tools import seeded

MIXED = 0.5  # share of the views that are mixed


class Mixture(NamedTuple):
    """Two images made one: by mixup (Zhang et al. 2018), or by CutMix (Yun et al. 2019).

    Args:
        partner: row of the other image. share: of the image itself, in [0, 1].
        box: of CutMix: top, left, bottom and right of the other image's part, as shares of the side; None: mixup.

    Example:
        >>> cut = Mixture(7, 0.75, (0.0, 0.5, 0.5, 1.0))
        >>> cut.of(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)).tolist()
        [[[0.0, 1.0], [0.0, 0.0]]]
        >>> Mixture(7, 0.75, None).of(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).tolist()
        [[[0.25]]]
    """

    partner: int
    share: float
    box: tuple[float, float, float, float] | None

    def of(self, image: Tensor, other: Tensor) -> Tensor:
        """The mixture of (3, S, S) and (3, S, S)."""
        if self.box is None:
            return torch.lerp(other, image, self.share)
        top, left, bottom, right = (round(image.shape[-1] * place) for place in self.box)
        mixed = image.clone()
        mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        return mixed


def draw_mixture(generator: np.random.Generator, n_images: int) -> Mixture:
    """Mixup or CutMix, alike often, with any image; the share is uniform in [0, 1] (Beta(1, 1), torchvision's default).

    CutMix's box has its centre anywhere; what lies outside the image is cut off, and counts for the image itself.
    """
    partner, share = int(generator.integers(n_images)), float(generator.random())
    if generator.random() < 0.5:
        return Mixture(partner, share, None)
    half, (y, x) = math.sqrt(1 - share) / 2, generator.random(2)
    top, left, bottom, right = (min(max(float(place), 0.0), 1.0) for place in (y - half, x - half, y + half, x + half))
    return Mixture(partner, 1 - (bottom - top) * (right - left), (top, left, bottom, right))


class Views:
    """Numbered views of some images.

    Args:
        n_images: number of images. seed: of all views.
        count: views of an image, after which the epochs begin again with the first; None: a new one in every epoch.
        mixes: whether a half of the views are mixed.

    Attributes:
        number: of the present view, counted from 0.

    Example:
        >>> views = Views(10, seed=0, count=4)
        >>> views.begin(epoch=5)
        >>> with views.drawing(row=3):
        ...     first = torch.rand(1)
        >>> with Views(10, seed=0, number=1).drawing(row=3):
        ...     print(torch.equal(torch.rand(1), first), views.number)
        True 1
    """

    def __init__(
        self, n_images: int, *, seed: int, count: int | None = None, mixes: bool = False, number: int = 0
    ) -> None:
        self.n_images, self.seed, self.count, self.mixes, self.number = n_images, seed, count, mixes, number

    def of_epoch(self, epoch: int) -> int:
        """The number of the view that an epoch, counted from 0, shows."""
        return epoch if self.count is None else epoch % self.count

    def begin(self, epoch: int) -> None:
        """Show the view of this epoch from now on."""
        self.number = self.of_epoch(epoch)

    def at(self, number: int) -> Views:
        """The same views, at another number."""
        return Views(self.n_images, seed=self.seed, count=self.count, mixes=self.mixes, number=number)

    def drawing(self, row: int) -> AbstractContextManager[None]:
        """Context in which torch's generator of the CPU draws the augmentation of image ``row``."""
        (seed,) = np.random.SeedSequence([self.seed, row, self.number, 0]).generate_state(1, np.uint64)
        return seeded(int(seed), gpus=False)

    def mixture(self, row: int) -> Mixture | None:
        """What image ``row`` is mixed with; None where it is not."""
        if not self.mixes:
            return None
        generator = np.random.default_rng([self.seed, row, self.number, 1])
        return draw_mixture(generator, self.n_images) if generator.random() < MIXED else None

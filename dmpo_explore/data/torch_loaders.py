"""Loaders of images for torch, and the augmentation of training images.

Augmentation of training images: random crops, mirroring, and one of TrivialAugment's changes of shape or colour.
In: a kind, ``none``, ``light`` or ``strong``. Out: torchvision's v2 transforms for uint8 images (3, H, W). What they
draw does not depend on the size of their result, so that one seed gives the same view at any size. The mixing of two
images that belongs to ``strong`` is in `training.augmented_views`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler
from torchvision.transforms import InterpolationMode, v2

from ..config import Preprocess
from ..utils.preprocess import RESIZING
from ..utils.registry import lookup
from ..utils.torch_tools import seeded
from .image_set import ImageFiles, ImageSet

KINDS = ("none", "light", "strong")
AREA = 0.35  # least share of an image's area in a crop of `light` and `strong`
STRENGTHS = 31  # of the changes of `strong`, from nothing to RandAugment's largest; the lower half is drawn from


def least_area(kind: str, crop_scale: float) -> float:
    """The least share of the area in a random crop: ``crop_scale`` where it is below 1, else that of the kind.

    Raises:
        ValueError: an unknown kind.
    """
    lookup(dict.fromkeys(KINDS), kind, "augmentation")
    return crop_scale if crop_scale < 1 or kind == "none" else AREA


def changes(kind: str, **how: Any) -> list[v2.Transform]:
    """What follows crop and mirroring: for ``strong`` one random change of shape or colour, else nothing.

    TrivialAugment (Müller and Hutter 2021): one change at a random strength, both uniform. The changes are
    RandAugment's, which go by the image's size, at up to half of its strengths: shears of 0.15, translations of 0.23 of
    the side, rotations of 15°, brightness, colour, contrast and sharpness by 0.45, 6 bits, solarising above half of the
    range; also contrast stretched or equalised, or nothing. Ours: the half.

    Args:
        how: its interpolation.
    """
    if kind != "strong":
        return []
    return [v2.RandomChoice([v2.RandAugment(1, strength, STRENGTHS, **how) for strength in range(STRENGTHS // 2 + 1)])]


# Views: numbered augmentations of images. A view follows from a seed, the image's row and the view's number alone.
#
# In: the row of an image and the view's number. Out: the random numbers of its augmentation, and with which other image
# it is mixed. No process, worker or epoch before it changes a view, and it is the same one at any image size: what a
# teacher answered is what a student sees.

MIXED = 0.5  # share of the views that are mixed


class Mixture(NamedTuple):
    """Two images made one: by mixup (Zhang et al. 2018), or by CutMix (Yun et al. 2019).

    Args:
        partner: row of the other image. share: of the image itself, in [0, 1].
        box: of CutMix: top, left, bottom and right of the other image's part, as shares of the side; None: mixup.
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


# Image sets → batches of tensors: transforms and loaders.
#
# In: `ImageSet` and a `Preprocess` (timm's data config at a chosen size). Out: batches of ``(B, 3, S, S)`` float32 and
# ``(B,)`` int64.
#
# Images are resized with antialiasing. Ours: the whole image to S x S, without a crop, unless ``resize`` is ``crop``;
# the random crops of a training are taken from the whole image (above).

MOST_READERS = 8  # processes
SHARED_MEMORY = Path("/dev/shm")  # Linux
PREFETCHED = 2  # batches that each process prepares in advance
SHARED_MEMORY_FULL = re.compile(r"out of shared memory|shared memory.*(No space left|Cannot allocate)")
Transform = Callable[[NDArray[np.uint8]], Tensor]
INTERPOLATIONS = {
    mode.value: mode for mode in (InterpolationMode.BICUBIC, InterpolationMode.BILINEAR, InterpolationMode.NEAREST)
}


def make_transform(
    preprocess: Preprocess, *, flip: bool = False, crop_scale: float = 1.0, augment: str = "none"
) -> Transform:
    """uint8 (H, W, 3) → float32 (3, S, S): resized to a square, perhaps mirrored, scaled to [0, 1], normalised.

    Mirroring, cropping and changing draw from torch's global generator.

    Args:
        crop_scale: the smallest area of a random crop with an aspect from 3:4 to 4:3, as a share of the image; 1: no
            crops.
        augment: ``light``: crops of at least 35 % of the area, or of ``crop_scale`` where that is below 1. ``strong``:
            also one of `torch_augmentation.changes`. ``none``: neither.

    Raises:
        ValueError: an interpolation, resizing or augmentation that is not offered, a mean or std that has not three
            positive entries.

    Example:
        >>> make_transform(Preprocess(32, (0.5,) * 3, (0.5,) * 3))(np.zeros((8, 8, 3), np.uint8)).shape
        torch.Size([3, 32, 32])
    """
    mode = lookup(INTERPOLATIONS, preprocess.interpolation, "interpolation")
    lookup(RESIZING, preprocess.resize, "resizing")
    mean, std, size = list(preprocess.mean), list(preprocess.std), preprocess.image_size
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean={mean} and std={std} must have three entries each, the latter above 0")
    area = least_area(augment, crop_scale)
    how: dict[str, Any] = {"interpolation": mode, "antialias": True}
    if area < 1:
        steps: list[Any] = [v2.RandomResizedCrop((size, size), scale=(area, 1), **how)]
    elif preprocess.resize == "squash":
        steps = [v2.Resize((size, size), **how)]
    else:
        steps = [v2.Resize(preprocess.shorter_side, **how), v2.CenterCrop(size)]
    steps += [v2.RandomHorizontalFlip()] if flip else []
    steps += changes(augment, interpolation=InterpolationMode.BILINEAR)
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    return partial(_transformed, v2.Compose(steps))


def _transformed(chain: v2.Transform, pixels: NDArray[np.uint8]) -> Tensor:
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # (3, H, W); a copy, as the source may be read-only
    result: Tensor = chain(image)
    return result


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """`ImageSet` seen through a transform: ``(3, S, S)`` float32 and the label."""

    def __init__(self, images: ImageSet, transform: Transform) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.images[i]), int(self.images.labels[i])


class IndexedDataset(Dataset[tuple[Tensor, int, int]]):
    """A data set's images and labels, each with its row; the images perhaps as ``views`` of theirs."""

    def __init__(self, dataset: Dataset[tuple[Tensor, int]], n: int, views: Views | None = None) -> None:
        self.dataset, self.n, self.views = dataset, n, views

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        if self.views is None:
            return *self.dataset[i], i
        image, label = self._viewed(self.views, i)
        if (mixture := self.views.mixture(i)) is not None:
            image = mixture.of(image, self._viewed(self.views, mixture.partner)[0])
        return image, label, i

    def _viewed(self, views: Views, i: int) -> tuple[Tensor, int]:
        with views.drawing(i):
            return self.dataset[i]


def make_loader(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    batch_size: int,
    shuffle: bool = False,
    sampler: Sampler[int] | None = None,
    flip: bool = False,
    crop_scale: float = 1.0,
    augment: str = "none",
    views: Views | None = None,
    workers: int = 0,
    indexed: bool = False,
    further: Sequence[ImageSet] = (),
) -> DataLoader[Any]:
    """Batches of ``(B, 3, S, S)`` float32 and ``(B,)`` int64; the last one may be smaller.

    Order and augmentation depend only on torch's global generator: ``torch.manual_seed`` before an epoch repeats it.

    Args:
        sampler: which images in which order, in place of ``shuffle``.
        flip, crop_scale, augment: as for `make_transform`.
        views: the images are views of theirs, whatever the generator; batches are then ``indexed``.
        indexed: batches have a third tensor, (B,) int64: each image's row. further: images after these, in order; a
            label may be `labels.MISSING`.

    Raises:
        OSError: too little shared memory for ``workers``.

    Example:
        >>> import dmpo_explore as dx
        >>> digits = dx.load_images("digits", "test")
        >>> images, labels = next(iter(make_loader(digits, Preprocess(32, (0.5,) * 3, (0.5,) * 3), batch_size=4)))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4]))
    """
    transform = make_transform(preprocess, flip=flip, crop_scale=crop_scale, augment=augment)
    dataset: Any = ConcatDataset([ImageDataset(part, transform) for part in (images, *further)])
    if not has_shared_memory(min(PREFETCHED * workers, -(-len(dataset) // batch_size)), batch_size, preprocess):
        raise OSError(_more_shared_memory())  # before the first step
    return DataLoader(
        IndexedDataset(dataset, len(dataset), views) if indexed or views else dataset,
        batch_size=batch_size,
        shuffle=shuffle and sampler is None,
        sampler=sampler,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def reading_workers(images: ImageSet, device: torch.device) -> int:
    """How many processes prepare images while ``device`` computes: up to `MOST_READERS` beside a GPU, none for a CPU.

    None either where processes are not forked, and for images that a data set's own library reads.
    """
    forked = multiprocessing.get_all_start_methods()[0] == "fork"
    if device.type == "cpu" or not forked or not isinstance(images.pixels, ImageFiles | np.ndarray):
        return 0
    return min(MOST_READERS, (os.cpu_count() or 1) - 1)


def has_shared_memory(batches: int, batch_size: int, preprocess: Preprocess) -> bool:
    """Whether so many batches fit into the shared memory through which processes hand them on, as far as is known."""
    needed = batches * batch_size * 3 * preprocess.image_size**2 * 4
    return not SHARED_MEMORY.is_dir() or needed <= shutil.disk_usage(SHARED_MEMORY).free


def batches_of(loader: Iterable[Any]) -> Iterator[Any]:
    """A loader's batches; an error of one of its processes is raised as it was there, in one line.

    Raises:
        OSError: the shared memory in which its processes hand on images is full.
    """
    try:
        yield from loader
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error).rstrip()
        if SHARED_MEMORY_FULL.search(text):
            raise OSError(_more_shared_memory()) from None
        if "in DataLoader worker process" not in text:
            raise
        raise type(error)(text.rpartition("\n")[2].partition(": ")[2]) from None


def _more_shared_memory() -> str:
    size = f" of {shutil.disk_usage(SHARED_MEMORY).total / 2**20:,.0f} MiB" if SHARED_MEMORY.is_dir() else ""
    return (
        f"the shared memory{size} by which processes hand on images is full; use fewer of them (--workers 0: none) "
        "or smaller batches, or enlarge it (docker run --shm-size=2g)"
    )

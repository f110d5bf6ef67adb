"""Image corruptions in five strengths: noise, blur, contrast, rotation.

In: images, the name of a corruption and a strength from 1 to 5. Out: images of the same size. Named corruptions in five
strengths are ImageNet-C's idea (Hendrycks and Dietterich 2019). Ours: four of them by torchvision, with strengths that
suit small images. An image's noise depends on its position in the source alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..utils.registry import lookup
from ..utils.torch_tools import seeded
from .image_set import ImageSet

STRENGTHS = (1, 2, 3, 4, 5)


def noise(image: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of standard deviation ``sigma`` (white is 1) from torch's global generator."""
    noisy = functional.gaussian_noise(functional.to_dtype(image, torch.float32, scale=True), sigma=sigma)
    result: Tensor = functional.to_dtype(noisy, torch.uint8, scale=True)
    return result


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; ``sigma`` is a share of the shorter side."""
    pixels = sigma * min(image.shape[-2:])
    size = 2 * int(np.ceil(3 * pixels)) + 1
    result: Tensor = functional.gaussian_blur(image, [size, size], [pixels, pixels])
    return result


def contrast(image: Tensor, factor: float) -> Tensor:
    """Towards the mean grey: 1 leaves the image, 0 is grey."""
    result: Tensor = functional.adjust_contrast(image, factor)
    return result


def rotation(image: Tensor, degrees: float) -> Tensor:
    """Turned to the left around the centre, bilinear, corners black."""
    result: Tensor = functional.rotate(image, degrees, interpolation=InterpolationMode.BILINEAR)
    return result


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "noise": (noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "blur": (blur, (0.014, 0.021, 0.029, 0.039, 0.054)),
    "contrast": (contrast, (0.75, 0.5, 0.35, 0.25, 0.15)),
    "rotation": (rotation, (5.0, 10.0, 15.0, 20.0, 30.0)),
}


def corrupt(pixels: NDArray[np.uint8], name: str, strength: int, seed: int = 0) -> NDArray[np.uint8]:
    """Corrupt one image: uint8 (H, W) or (H, W, 3) → the same shape. Torch's global generator is left as it was.

    Raises:
        ValueError: unknown corruption, or a strength outside 1 to 5.

    Example:
        >>> grey = np.full((8, 8), 100, np.uint8)
        >>> turned = corrupt(grey, "rotation", 5)
        >>> turned.shape, bool(turned[0, 0] < 100)
        ((8, 8), True)
    """
    apply, levels = lookup(CORRUPTIONS, name, "corruption")
    if strength not in STRENGTHS:
        raise ValueError(f"strength={strength!r} must be one of 1 to {len(levels)}")
    image = torch.from_numpy(np.array(pixels).reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    with seeded(seed):
        result = apply(image, levels[strength - 1])
    return np.asarray(result.permute(1, 2, 0).numpy().reshape(pixels.shape))


@dataclass(frozen=True)
class _Corrupted:
    """Position in the source → the corrupted image."""

    pixels: Any
    name: str
    strength: int

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        return corrupt(np.asarray(self.pixels[position], np.uint8), self.name, self.strength, seed=position)


def corrupted(images: ImageSet, name: str, strength: int) -> ImageSet:
    """An image set whose images are corrupted when they are read; raises as `corrupt`.

    Example:
        >>> import dmpo_explore as dx
        >>> noisy = corrupted(dx.load_images("digits", "test"), "noise", 2)
        >>> noisy[0].shape
        (8, 8, 3)
    """
    corrupt(np.zeros((8, 8, 3), np.uint8), name, strength)
    return replace(images, pixels=_Corrupted(images.pixels, name, strength))

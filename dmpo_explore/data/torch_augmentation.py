"""Augmentation of training images: random crops, mirroring, and one of TrivialAugment's changes of shape or colour.

In: a kind, ``none``, ``light`` or ``strong``. Out: torchvision's v2 transforms for uint8 images (3, H, W). What they
draw does not depend on the size of their result, so that one seed gives the same view at any size. The mixing of two
images that belongs to ``strong`` is in `torch_views`.
"""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2

from ..utils.registry import lookup

KINDS = ("none", "light", "strong")
AREA = 0.35  # least share of an image's area in a crop of `light` and `strong`
STRENGTHS = 31  # of the changes of `strong`, from nothing to RandAugment's largest; the lower half is drawn from


def least_area(kind: str, crop_scale: float) -> float:
    """The least share of the area in a random crop: ``crop_scale`` where it is below 1, else that of the kind.

    Raises:
        ValueError: an unknown kind, or a share outside (0, 1].

    Example:
        >>> least_area("none", 1.0), least_area("light", 1.0), least_area("strong", 0.6)
        (1.0, 0.35, 0.6)
    """
    lookup(dict.fromkeys(KINDS), kind, "augmentation")
    if not 0 < crop_scale <= 1:
        raise ValueError(f"crop_scale={crop_scale!r} must lie in (0, 1]")
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

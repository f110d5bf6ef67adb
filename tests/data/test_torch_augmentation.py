"""Augmentation: what each kind does, the same view at any size, and the older options as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from dmpo_explore.config import Preprocess
from dmpo_explore.data.torch_loaders import AREA, changes, least_area, make_transform
from dmpo_explore.utils.torch_tools import seeded

ROWS, COLUMNS = np.mgrid[:120, :160] / 100
IMAGE = (127 + 60 * np.stack([np.sin(5 * ROWS) + COLUMNS, np.cos(4 * COLUMNS), ROWS - np.sin(3 * COLUMNS)], -1)).astype(
    np.uint8
)


def viewed(seed: int, size: int = 32, **options: Any) -> Tensor:
    with seeded(seed):
        return make_transform(Preprocess(size, (0.0,) * 3, (1.0,) * 3, "bilinear"), **options)(IMAGE)


def test_the_older_options_draw_as_they_always_did() -> None:
    """Old trainings are repeated bit by bit."""
    how: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "antialias": True}
    chains = {
        (True, 1.0): [v2.Resize((32, 32), **how), v2.RandomHorizontalFlip()],
        (True, 0.5): [v2.RandomResizedCrop((32, 32), scale=(0.5, 1), **how), v2.RandomHorizontalFlip()],
        (False, 0.5): [v2.RandomResizedCrop((32, 32), scale=(0.5, 1), **how)],
    }
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.0] * 3, [1.0] * 3)]
    for (flip, crop_scale), chain in chains.items():
        for seed in range(5):
            with seeded(seed):
                expected = v2.Compose([*chain, *end])(torch.from_numpy(IMAGE).permute(2, 0, 1))
            assert torch.equal(viewed(seed, flip=flip, crop_scale=crop_scale), expected)


def test_light_is_a_crop_of_a_stated_least_area() -> None:
    for seed in range(5):
        light = viewed(seed, augment="light", flip=True)
        assert torch.equal(light, viewed(seed, crop_scale=AREA, flip=True))
        assert torch.equal(viewed(seed, augment="light", crop_scale=0.8), viewed(seed, crop_scale=0.8))
    assert [least_area(kind, 1.0) for kind in ("none", "light", "strong")] == [1.0, AREA, AREA]
    with pytest.raises(ValueError, match=r"unknown augmentation 'heavy'. Valid: light, none, strong"):
        make_transform(Preprocess(8, (0.0,) * 3, (1.0,) * 3), augment="heavy")


def test_strong_changes_most_of_the_crops() -> None:
    same = [torch.equal(viewed(s, augment="strong"), viewed(s, augment="light")) for s in range(60)]
    assert 2 <= sum(same) <= 20  # 1 of 14 changes is none, and some change nothing here


@pytest.mark.parametrize("augment", ["none", "light", "strong"])
def test_one_seed_is_one_view_at_any_size(augment: str) -> None:
    """A teacher with larger images sees the same crop, mirrored alike, and the same change."""
    own, others = [], []
    for seed in range(20):
        small, large, other = (viewed(seed + more, size, augment=augment, flip=True)
                               for size, more in ((48, 0), (96, 0), (96, 99)))  # fmt: skip
        for found, view in ((own, large), (others, other)):
            found.append(float((small - torch.nn.functional.avg_pool2d(view, 2)).abs().mean()))
    assert max(own) < 0.02
    assert augment == "none" or np.median(others) > 0.06


def test_one_change_of_rand_augment_at_up_to_half_of_its_strengths() -> None:
    (choice,) = changes("strong")
    assert isinstance(choice, v2.RandomChoice)
    assert [(kind.num_ops, kind.magnitude, kind.num_magnitude_bins) for kind in choice.transforms] == [
        (1, strength, 31) for strength in range(16)
    ]
    black = torch.zeros(3, 16, 16, dtype=torch.uint8)
    assert all(torch.equal(choice(black), black) for _ in range(30))
    assert changes("none") == changes("light") == []

"""Spoilt pictures against what the corruption says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from noise_images import pictures

from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS, corrupt, corrupted


def picture(side: int = 28, grey: bool = False) -> Any:
    rng = np.random.default_rng(0)
    smooth = np.linspace(40, 200, side)[:, None] + rng.normal(0, 5, (side, side))
    plane = smooth.clip(0, 255).astype(np.uint8)
    return plane if grey else np.stack([plane, plane // 2, 255 - plane], axis=2)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("grey", [True, False])
def test_stronger_is_further_away(name: str, grey: bool) -> None:
    clean = picture(grey=grey)
    seen = [corrupt(clean, name, s) for s in STRENGTHS]
    assert all(s.shape == clean.shape and s.dtype == np.uint8 for s in seen)
    distances = [np.abs(s.astype(float) - clean).mean() for s in seen]
    assert distances == sorted(distances) and distances[0] > 0.3 and len(set(distances)) == 5


def test_noise_has_its_size_and_is_the_pictures_own() -> None:
    flat = np.full((200, 200), 128, np.uint8)
    state = torch.random.get_rng_state()
    for strength, sigma in enumerate(CORRUPTIONS["noise"][1], start=1):
        noisy = corrupt(flat, "noise", strength, seed=3).astype(float) / 255
        assert noisy.std() == pytest.approx(sigma, rel=0.05)
    assert torch.equal(state, torch.random.get_rng_state())
    a, b, c = (corrupt(flat, "noise", 1, seed=s) for s in (3, 3, 4))
    assert (a == b).all() and (a != c).any()


def test_contrast_and_rotation_by_hand() -> None:
    clean = picture(grey=True)
    factor = CORRUPTIONS["contrast"][1][1]
    expected = clean.mean() + factor * (clean - clean.mean())
    assert np.abs(corrupt(clean, "contrast", 2) - expected).max() <= 1.5
    dot = np.zeros((21, 21), np.uint8)
    dot[10, 18] = 255  # right of the centre
    row, column = np.unravel_index(corrupt(dot, "rotation", 5).argmax(), dot.shape)
    angle = np.degrees(np.arctan2(10 - row, column - 10))
    assert angle == pytest.approx(30, abs=5)  # turned to the left, upwards


def test_blur_keeps_the_mean_and_flattens() -> None:
    clean = picture()
    blurred = corrupt(clean, "blur", 5).astype(float)
    assert blurred.mean() == pytest.approx(clean.mean(), abs=1)
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.5 * np.abs(np.diff(clean.astype(float), axis=1)).mean()


def test_corrupted_pictures_keep_their_places() -> None:
    clean, spoilt = pictures(), corrupted(pictures(), "noise", 3)
    assert (spoilt.labels == clean.labels).all() and (spoilt.indices == clean.indices).all()
    assert spoilt[1].shape == (16, 16, 3) and (spoilt[1][..., 0] == spoilt[1][..., 2]).all()  # grey stays grey
    assert (spoilt.subset([4])[0] == spoilt[4]).all()


@pytest.mark.parametrize(
    ("name", "strength", "words"),
    [
        ("fog", 1, "unknown corruption 'fog'.*blur, contrast, noise, rotation"),
        ("blur", 6, "strength=6 must be one of 1 to 5"),
    ],
)
def test_no_such_corruption(name: str, strength: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        corrupted(pictures(), name, strength)

"""Wrong images are refused with the fix in the message, by the model and by the arrays-only check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_model import made, pictures

from dmpo_explore.inference.torch_engine import infer
from dmpo_explore.models.image_check import check_images
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 8, 9), np.float32), r"shape \(2, 3, 8, 9\); this model expects \(B, 3, 8, 8\)"),
        (np.zeros((0, 3, 8, 8), np.float32), "B ≥ 1"),
        (np.zeros((3, 8, 8), np.float32), r"shape \(3, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "type uint8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), r"type torch.int64"),
    ],
)
def test_wrong_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(images, 8)


def test_right_images_pass() -> None:
    for images in (np.zeros((1, 3, 8, 8)), torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16)):
        check_images(images, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_floats_of_another_width_are_refused_with_the_fix(dtype: torch.dtype) -> None:
    model, images = made(), pictures(2).to(dtype)
    message = rf"images of type {dtype}; this model computes in torch.float32: pass images.to\(torch.float32\)"
    with pytest.raises(ValueError, match=message):
        model(images)
    with pytest.raises(ValueError, match=message):
        infer(model, images, ConfidencePolicy((0.5,)))
    assert infer(model, images.to(torch.float32), ConfidencePolicy((0.5,))).exit.shape == (2,)


def test_a_model_of_another_width_expects_that_width() -> None:
    model, images = made().double(), pictures(2)
    assert model(images.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="this model computes in torch.float64"):
        model(images)


def test_whole_numbers_and_other_sizes_are_refused_by_the_walk() -> None:
    model = made()
    with pytest.raises(ValueError, match=r"images of type torch.uint8; .* use run.inputs"):
        model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 31, 32\); this model expects \(B, 3, 32, 32\)"):
        next(model.walk(torch.zeros(2, 3, 31, 32)))


def test_autocast_takes_half_precision_but_no_double() -> None:
    model, images = made(), pictures(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(images.bfloat16()).shape == model(images).shape
        with pytest.raises(ValueError, match="type torch.float64"):
            model(images.double())

"""What is no image, no number or no policy for the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spread_model import B, C, K, labels, made, pictures
from synthetic import make_meta
from torch import Tensor

from dmpo_explore.inference.torch_engine import infer, stream
from dmpo_explore.inference.torch_recording import record_split
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize("call", [infer, lambda model, images, policy: stream(model, [images], policy)])
def test_another_model_is_shown_its_way(call: Callable[[object, Tensor, Policy], object]) -> None:
    with pytest.raises(TypeError, match=r"model is a Linear, .*dx\.inference\.run_early_exit"):
        call(torch.nn.Linear(3, 3), pictures(2), ConfidencePolicy((0.5,)))


def test_nan_logits_are_refused() -> None:
    broken = pictures()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="1 of 60 images gave NaN or infinite logits"):
        record_split(made(), [(broken, labels())], make_meta(B, K, C))


@pytest.mark.parametrize(
    ("first", "facts", "message"),
    [
        (1, {}, r"labels.npy: 3 at image 2 .* must be one of the 3 classes"),
        (0, {"flops": (1.0, 2.0)}, "flops"),
        (0, {"indices": None, "class_names": ("a", "b")}, "must be"),
    ],
)
def test_a_record_in_memory_is_checked(first: int, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_split(made(), [(pictures(), labels() + first)], make_meta(B, K, C, **facts))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 48, 48), r"images of shape \(2, 3, 48, 48\); this model expects \(B, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32), r"images of shape \(3, 32, 32\)"),
        (torch.zeros(2, 1, 32, 32), "this model expects"),
        (torch.zeros(2, 32, 32, 3), "this model expects"),
        (torch.zeros(0, 3, 32, 32), "B ≥ 1"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "images of type torch.uint8; .* preprocessed floats"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer(made(), images, ConfidencePolicy((0.5,)))

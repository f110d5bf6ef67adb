"""What is no image, no number or no policy for the model is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spread_model import B, C, K, labels, made, pictures
from synthetic import make_meta
from torch import Tensor

from dmpo_explore.inference.torch_engine import infer, stream
from dmpo_explore.inference.torch_recording import record_split
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.controls import OraclePolicy
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize("call", [infer, lambda model, images, policy: stream(model, [images], policy)])
def test_another_model_is_shown_its_way(call: Callable[[object, Tensor, Policy], object]) -> None:
    with pytest.raises(TypeError, match=r"model is a Linear, .*dx\.inference\.run_early_exit"):
        call(torch.nn.Linear(3, 3), pictures(2), ConfidencePolicy((0.5,)))


def test_a_bound_does_not_run() -> None:
    with pytest.raises(ValueError, match="'oracle' reads the labels"):
        infer(made(), pictures(2), OraclePolicy((4,)))


def test_nan_logits_are_refused() -> None:
    broken = pictures()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="exit 1 gave NaN or infinite logits"):
        infer(made(), broken, ConfidencePolicy((0.5,)))
    with pytest.raises(ValueError, match="1 of 60 images gave NaN or infinite logits"):
        record_split(made(), [(broken, labels())], make_meta(B, K, C))


def test_nan_at_a_later_exit_only_matters_to_who_gets_there() -> None:
    model = made()
    with torch.no_grad():
        model.stages[2].scale.fill_(torch.nan)
    assert infer(model, pictures(), ConfidencePolicy((0.0,))).exit.tolist() == [0] * B
    with pytest.raises(ValueError, match="exit 3 gave NaN"):
        infer(model, pictures(), ConfidencePolicy((1.01,)))


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


def test_a_policy_for_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has 2 thresholds; 4 exits need 1 or 3"):
        infer(made(), pictures(2), ConfidencePolicy((0.5, 0.5)))

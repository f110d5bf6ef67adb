"""A slimmed model taught by the unslimmed one: `distillation`."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dmpo_explore.config import ModelConfig, TrainingConfig
from dmpo_explore.models.factory import build_model
from dmpo_explore.neighbours.slimming.slim import (
    Distillation,
    Lessons,
    Taught,
    answer_losses,
    calibration_losses,
)  # fmt: skip
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import JoinedParts
from dmpo_explore.training.parts import Batch

CONFIG = ModelConfig("test_vit", "random", 32, exits=(2, 4, 6))
IMAGES, LABELS = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])


def pair_of(**config: object) -> Distillation:
    torch.manual_seed(0)
    models = [build_model(ModelConfig("test_vit", "random", 32, exits=(2, 4, 6), **config), 3) for _ in range(2)]  # type: ignore[arg-type]
    return Distillation(*models)


class Gives(torch.nn.Module):
    """What it was given, for any images."""

    def __init__(self, out: Taught) -> None:
        super().__init__()
        self.out = out

    def forward(self, images: torch.Tensor) -> Taught:
        return self.out


def test_the_pair_gives_what_both_models_give() -> None:
    pair = pair_of().eval()
    out = pair(IMAGES)
    torch.testing.assert_close(out.logits, pair.student(IMAGES))
    torch.testing.assert_close(out.teacher, pair.teacher(IMAGES))
    own, taught = ([o.tokens for o in model.walk(IMAGES)] for model in (pair.student, pair.teacher))
    for k in range(3):
        torch.testing.assert_close(out.hidden[k], F.mse_loss(own[k], taught[k]) / taught[k].square().mean())
    assert not out.teacher.requires_grad and out.logits.requires_grad


@pytest.mark.parametrize("config", [{"earlier_exits": True}, {"bypass": "ladder"}])
def test_exits_that_read_earlier_ones_are_taught_too(config: dict[str, object]) -> None:
    assert pair_of(**config).train()(IMAGES).logits.shape == (4, 3, 3)


def test_losses_are_the_formulas() -> None:
    torch.manual_seed(0)
    out = Taught(torch.randn(4, 3, 3), torch.randn(4, 3, 3), torch.tensor([1.0, 2.0, 3.0]))
    parts = [0.9 * F.cross_entropy(out.logits[:, k], out.teacher[:, k].softmax(-1))
             + 0.1 * F.cross_entropy(out.logits[:, k], LABELS) for k in range(3)]  # fmt: skip
    expected = torch.stack(parts)
    torch.testing.assert_close(answer_losses(out, LABELS).mean(0), expected)
    config = TrainingConfig(precision="no")
    joined = JoinedParts([Lessons(1, 3)], torch.nn.Identity(), config, 3, make_accelerator(config, "cpu"), 1, None)
    for epoch, wanted in enumerate((torch.tensor(2.0), 2.0 + expected.mean())):  # at first hidden states only
        joined.before_epoch(epoch)
        total, loss, answers = joined.losses(Batch(IMAGES, LABELS), Gives(out))
        torch.testing.assert_close((loss, answers), (wanted, expected))
        assert total is loss


def test_importance_is_of_all_exits_or_of_the_last() -> None:
    pair = pair_of().eval()
    out = pair(IMAGES)
    losses = answer_losses(out, LABELS).mean(0) + out.hidden
    (every,), (last,) = (list(calibration_losses(pair, [(IMAGES, LABELS)], kind)) for kind in ("all", "last"))
    torch.testing.assert_close((every, last), (losses.mean(), losses[-1]))

"""Weights that are planned, as the loop reads them."""

from __future__ import annotations

import torch
from torch import Tensor
from two_exits import make_data, make_model

from dmpo_explore.training.losses import weighted_loss
from dmpo_explore.training.scheduled_weights import ScheduledWeights


def test_an_epoch_has_the_weights_and_the_criterion_of_its_objective() -> None:
    given: list[object] = []
    model, (images, labels) = make_model(), make_data(8).tensors

    def criterion(logits: Tensor, labels: Tensor, **more: object) -> tuple[Tensor, Tensor]:
        given.append(more)
        return weighted_loss(logits, labels, (0.5, 1.5))

    weights = ScheduledWeights(model, lambda epoch: ((epoch, 1.5), criterion))
    weights.start_epoch(2, weights.module)
    total, loss, parts = weights.losses(images, labels, anchors=None)
    weights.step()
    expected, every = weighted_loss(model(images), labels, (0.5, 1.5))
    assert total is loss and torch.equal(loss, expected) and torch.equal(parts, every)
    assert weights.mean_weights() == (2, 1.5) and given == [{"anchors": None}]
    assert weights.copies == (model,) and weights.state_dict() == {}

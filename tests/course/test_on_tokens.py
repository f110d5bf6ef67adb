"""Training on frozen tokens: an exit that can tell two classes apart learns it, and gains are paired."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dmpo_explore as dx
from dmpo_explore.course.on_tokens import Frozen, correct, gain, train_exit


@pytest.fixture
def frozen() -> Frozen:
    """Two classes whose tokens differ in their first channel."""
    labels = torch.arange(200) % 2
    tokens = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(0))
    tokens[:, :, 0] += 6.0 * labels[:, None]
    return Frozen(tokens, labels)


def readable() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


def test_it_learns_what_can_be_learnt_and_repeats_with_its_seeds(frozen: Frozen) -> None:
    first, again = (correct(readable, frozen, seeds=2, epochs=60) for _ in range(2))
    assert first.shape == (2, 100) and first.mean() > 0.9
    assert np.array_equal(first, again)


def test_only_the_first_half_trains(frozen: Frozen) -> None:
    """Other tokens in the second half leave the trained weights as they were."""
    weights = []
    for tokens in (frozen.tokens, torch.cat((frozen.tokens[:100], torch.zeros(100, 3, 4)))):
        torch.manual_seed(0)
        exit = readable()
        train_exit(exit, Frozen(tokens, frozen.labels), epochs=1)
        weights.append(torch.cat([weight.detach().flatten() for weight in exit.parameters()]))
    assert torch.equal(*weights)


def test_a_gain_is_in_points_with_an_interval_over_images_and_trainings() -> None:
    more, less = np.array([[True] * 4, [True, True, True, False]]), np.array([[True, False, True, False]] * 2)
    row = gain("more over less", more, less)
    assert row["seeds"] == "+50.00 +25.00" and row["points"] == 37.5
    assert (row["low"], row["high"]) == dx.analysis.seeds_interval(100.0 * (more ^ less))[1:]
    assert row["over"] == "images and trainings" and gain("one", more[:1], less[:1])["over"] == "images"

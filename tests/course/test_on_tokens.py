"""Training on frozen tokens: an exit that can tell two classes apart learns it, and gains are paired."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import ndtri
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


def test_no_interval_leaves_a_training_out() -> None:
    """Three trainings that differ more than images do: the ends are those of all 27 draws of three trainings."""
    shares = np.array([0.096, 0.037, 0.029])
    more = np.arange(5000)[None] < 5000 * shares[:, None]
    row = gain("more over less", more, np.zeros_like(more))
    drawn = more[np.array(list(itertools.product(range(3), repeat=3)))].mean(axis=1)  # (27, 5000)
    images = np.linspace(0.0005, 0.9995, 1000)  # quantiles of the images' own error
    ends = 100 * (drawn.mean(axis=1)[:, None] + drawn.std(axis=1)[:, None] / 5000**0.5 * ndtri(images))
    low, high = np.quantile(ends, [0.025, 0.975])
    assert float(row["low"]) <= 2.9 and abs(float(row["low"]) - low) < 0.1
    assert abs(float(row["high"]) - high) < 0.1 and high > 9.35

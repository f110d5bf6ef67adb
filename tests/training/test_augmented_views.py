"""Augmented views in a training: each epoch shows its own, mixed images have mixed targets, and runs resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_config
from tiny_training import same_history

from dmpo_explore.data.torch_loaders import Views
from dmpo_explore.training.augmented_views import AugmentedViews, make_views
from dmpo_explore.training.parts import Batch
from dmpo_explore.training.train import train

LABELS = np.arange(40) % 4


@pytest.mark.parametrize(
    ("training", "made"),
    [
        ({}, None),
        ({"crop_scale": 0.5}, None),
        ({"augment": "light"}, (9, 5, None, False)),
        ({"augment": "strong"}, (9, 5, None, True)),
        ({"augment": "strong", "teacher": "big", "teacher_views": 3}, (9, 0, 3, True)),
        ({"teacher": "big"}, (9, 0, 8, False)),
        ({"teacher": "big", "flip": False}, (9, 0, 1, False)),  # nothing is drawn: all views are equal
    ],
)
def test_views_have_the_seed_of_the_training_and_with_a_teacher_that_of_the_data(
    training: dict[str, Any], made: tuple[Any, ...] | None
) -> None:
    views = make_views(tiny_config(seed=5, **training), 9)
    assert (views and (views.n_images, views.seed, views.count, views.mixes)) == made


@pytest.mark.parametrize("answered", [False, True])
def test_mixed_images_have_two_labels_or_none_where_a_teacher_answers(answered: bool) -> None:
    views = Views(40, seed=1, mixes=True)
    part = AugmentedViews(views, LABELS, 4, answered=answered)
    part.before_epoch(3)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    batch = part.views(Batch(torch.zeros(40, 3, 4, 4), torch.from_numpy(LABELS)[rows], rows))
    mixtures = [views.at(3).mixture(int(row)) for row in rows]
    assert 5 < sum(mixture is None for mixture in mixtures) < 35
    if answered:
        assert batch.targets is None and batch.labelled is not None
        assert batch.labelled.tolist() == [mixture is None for mixture in mixtures]
        return
    assert batch.labelled is None and batch.targets is not None
    for row, mixture, target in zip(rows, mixtures, batch.targets, strict=True):
        expected = torch.zeros(4)
        expected[LABELS[row]] += 1 if mixture is None else mixture.share
        if mixture is not None:
            expected[LABELS[mixture.partner]] += 1 - mixture.share
        torch.testing.assert_close(target, expected)


def test_without_mixing_a_batch_stays_as_it_is() -> None:
    part, batch = AugmentedViews(Views(40, seed=1), LABELS, 4, answered=True), Batch(torch.zeros(1), torch.zeros(1))
    assert part.views(batch) is batch


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("augment", ["light", "strong"])
def test_a_run_is_the_same_whatever_the_workers(augment: str) -> None:
    config = tiny_config(epochs=2, augment=augment, coupling="sigmoid", label_smoothing=0.1)
    whole = train(config, "whole", device="cpu")
    assert f"Augmentation `{augment}`." in whole.card() and "augment" not in tiny_config().to_json()
    same_history(train(config.updated({"training.workers": 2}), "workers", device="cpu"), whole)
    plain = train(config.updated({"training.augment": "none"}), "plain", device="cpu")
    assert (plain.history()["loss"] != whole.history()["loss"]).all()

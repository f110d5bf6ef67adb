"""Views: they follow from seed, row and number alone, in any process, and mixtures are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmpo_explore.config import Preprocess
from dmpo_explore.data.images import load_images
from dmpo_explore.data.torch_loaders import Mixture, Views, draw_mixture, make_loader

DIGITS = load_images("digits", "test").subset(slice(30))


def seen(views: Views | None, size: int = 8, **options: Any) -> dict[int, Tensor]:
    """Row → image, of an epoch in an order of its own."""
    loader = make_loader(DIGITS, Preprocess(size, (0.0,) * 3, (1.0,) * 3), batch_size=7, shuffle=True, augment="strong",
                         flip=True, views=views, indexed=True, **options)  # fmt: skip
    return {int(row): image for images, _, rows in loader for image, row in zip(images, rows, strict=True)}


def same(a: dict[int, Tensor], b: dict[int, Tensor]) -> list[bool]:
    return [torch.equal(a[row], b[row]) for row in range(30)]


def test_a_view_follows_from_seed_row_and_number_alone() -> None:
    views = Views(30, seed=5, count=3, mixes=True)
    torch.manual_seed(0)
    first = seen(views)
    torch.manual_seed(1)  # another order of images, and other numbers everywhere else
    assert all(same(first, seen(Views(30, seed=5, mixes=True))))
    assert sum(same(first, seen(views.at(1)))) < 5 and sum(same(first, seen(Views(30, seed=6, mixes=True)))) < 5
    views.begin(4)
    assert views.number == 1 and all(same(seen(views), seen(views.at(1))))
    views.begin(6)
    assert all(same(seen(views), first))
    assert sum(same(seen(None), seen(None))) < 5  # without views each epoch goes on with the global generator


def test_workers_show_the_same_views() -> None:
    views = Views(30, seed=5, mixes=True)
    views.begin(2)
    assert all(same(seen(views), seen(views, workers=2)))


def test_views_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with Views(3, seed=0).drawing(1):
        torch.rand(4)
    assert Views(3, seed=0, mixes=True).mixture(0) == Views(3, seed=0, mixes=True).mixture(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_half_of_the_views_are_mixed_by_both_ways_alike() -> None:
    views = Views(10, seed=0, mixes=True)
    found = [views.at(number).mixture(row) for number in range(40) for row in range(10)]
    mixed = [mixture for mixture in found if mixture is not None]
    assert 170 < len(mixed) < 230 and 70 < sum(mixture.box is None for mixture in mixed) < 130
    assert {mixture.partner for mixture in mixed} == {*range(10)}
    assert 0.4 < float(np.mean([mixture.share for mixture in mixed if mixture.box is None])) < 0.6
    assert all(Views(10, seed=0).mixture(row) is None for row in range(10))


def test_a_mixed_view_is_made_of_the_views_of_both_images() -> None:
    plain, views = seen(Views(30, seed=2)), Views(30, seed=2, mixes=True)
    mixed = seen(views)
    for row in range(30):
        mixture = views.mixture(row)
        expected = plain[row] if mixture is None else mixture.of(plain[row], plain[mixture.partner])
        assert torch.equal(mixed[row], expected)


@pytest.mark.parametrize("size", [7, 32])
def test_cutmix_leaves_the_stated_share(size: int) -> None:
    generator, boxes = np.random.default_rng(0), 0
    for _ in range(60):
        mixture = draw_mixture(generator, 5)
        image = mixture.of(torch.zeros(3, size, size), torch.ones(3, size, size))
        boxes += mixture.box is not None
        rounding = 2 / size if mixture.box else 0  # half a pixel on each of four sides
        assert 1 - float(image.mean()) == pytest.approx(mixture.share, abs=1e-5 + rounding)
    assert 10 < boxes < 50
    assert Mixture(0, 1.0, (0.5, 0.5, 0.5, 0.5)).of(torch.zeros(1, 4, 4), torch.ones(1, 4, 4)).sum() == 0

"""The course's small training: seeded, on one thread, and its differences as the study has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import dmpo_explore as dx
from dmpo_explore.course import parts, training
from dmpo_explore.course.camera import Part


@pytest.fixture
def part() -> Part:
    """Two classes of 40 images that a mean tells apart, at two exits."""
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    tokens = torch.randn(2, 40, 26, parts.WIDTH)
    tokens[..., :20] += 2 * labels[None, :, None, None]
    return Part(tokens.half(), labels, SimpleNamespace())  # type: ignore[arg-type]


def net() -> parts.EarlyExitNet:
    predictors = [parts.MeanPredictor(n_classes=2) for _ in range(2)]
    return parts.EarlyExitNet([parts.SideStage(), parts.SideStage()], [nn.Identity(), nn.Identity()], predictors)


def test_it_learns_and_a_seed_repeats_it(part: Part) -> None:
    one, other = (training.train(net, part, epochs=20, seed=5) for _ in range(2))
    assert training.correct(one, part).shape == (2, 40) and training.correct(one, part).mean() == 1
    assert torch.equal(training.answers(one, part), training.answers(other, part))


def test_a_trunk_for_one_exit_teaches_no_other(part: Part) -> None:
    def only_last() -> parts.EarlyExitNet:
        predictors = [parts.MeanPredictor(n_classes=2) for _ in range(2)]
        return parts.EarlyExitNet([parts.SideStage(), parts.SideStage()], predictors=predictors, only=1)

    torch.manual_seed(1)
    fresh, trained = only_last(), training.train(only_last, part, epochs=2, seed=1)
    assert training.answers(trained, part).shape == (40, 1, 2)
    changed = [not torch.equal(*(net.predictors[k].first[0].weight for net in (fresh, trained))) for k in range(2)]
    assert changed == [False, True] and not torch.equal(fresh.stages[0].down.weight, trained.stages[0].down.weight)


def test_loss_weights_choose_who_teaches(part: Part) -> None:
    nets = [training.train(net, part, lambda epoch, epochs, w=w: w, epochs=1, seed=1) for w in ([0, 1], [0, 2])]
    first, other = (of.predictors[0].first[0].weight for of in nets)
    assert torch.equal(first, other)  # weight decay alone


def test_it_runs_on_one_thread_and_gives_the_others_back(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(parts.SideStage, "forward", counting(seen, parts.SideStage.forward))
    torch.set_num_threads(2)
    try:
        training.train(net, part, epochs=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def counting(seen: list[int], forward: object) -> object:
    def counted(*args: object) -> object:
        seen.append(torch.get_num_threads())
        return forward(*args)  # type: ignore[operator]

    return counted


def test_a_gain_is_the_studys_difference() -> None:
    dice = np.random.default_rng(0)
    more, less = dice.random((3, 50)) < 0.8, dice.random((3, 50)) < 0.6
    row = training.gain("more over less", more, less)
    mean, low, high = dx.analysis.seeds_interval(100 * (more.astype(float) - less))
    assert (row["points"], row["low"], row["high"]) == (mean, low, high)
    assert len(str(row["seeds"]).split()) == 3 and row["over"] == "images and trainings"
    assert training.gain("one", more[:1], less[:1])["over"] == "images"

"""The course's small training: seeded, on one thread, and for the exits that have a weight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

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
    nets = [training.train(net, part, lambda *_, w=w: (0, w), epochs=2, seed=1) for w in (0, 1)]
    changed = [not torch.equal(*(of.predictors[k].first[0].weight for of in nets)) for k in range(2)]
    assert changed == [False, True] and not torch.equal(*(of.stages[0].down.weight for of in nets))


def test_weights_are_those_of_the_epoch(part: Part) -> None:
    asked = []
    training.train(net, part, lambda *epoch: asked.append(epoch) or (1.0, 0.5), epochs=3)  # type: ignore[func-returns-value]
    assert sorted({*asked}) == [(0, 3), (1, 3), (2, 3)]


def test_it_runs_on_one_thread_and_gives_the_others_back(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    forward = parts.SideStage.forward

    def counted(*given: Any) -> Any:
        seen.append(torch.get_num_threads())
        return forward(*given)

    monkeypatch.setattr(parts.SideStage, "forward", counted)
    torch.set_num_threads(2)
    try:
        training.train(net, part, epochs=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

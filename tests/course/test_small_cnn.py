"""The small CNN: halves do not overlap, the loss is the library's, frozen parts stay, seeds repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dmpo_explore as dx
from dmpo_explore.course.small_cnn import (
    EarlyExitCNN,
    Images,
    SecondOrderCNN,
    adam,
    correct,
    halves,
    record,
    repeated,
    sgd,
    thirds,
    train,
)


@pytest.fixture
def squares() -> Images:
    """Bright or dark images with a little noise: two classes that every exit can learn."""
    labels = torch.arange(100) % 2
    noise = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Images(noise / 4 + 2.0 * labels[:, None, None, None] - 1, labels)


def uniform(epoch: int, epochs: int, n_exits: int) -> list[float]:
    return [1.0] * n_exits


def test_no_image_is_in_both_halves() -> None:
    run = dx.load_run("fashion")
    data, test = halves(run, 300, 200)
    assert data.pixels.shape == (300, 1, 14, 14) and test.pixels.shape == (200, 1, 14, 14)
    labels = run.record("test").labels
    assert np.array_equal(data.labels, labels[:300]) and np.array_equal(test.labels, labels[-200:])
    assert float(data.pixels.mean()) == pytest.approx(0, abs=1e-5) and float(data.pixels.std()) == pytest.approx(1)


def test_what_is_between_the_halves_is_in_neither() -> None:
    run = dx.load_run("fashion")
    data, between, test = thirds(run, 300, 200)
    joined = torch.cat([part.labels for part in (data, between, test)])
    assert np.array_equal(joined, run.record("test").labels) and len(between.labels) == 9500


def test_the_exits_of_the_method_read_maps_and_a_static_net_has_no_stage_behind_its_exit() -> None:
    images = Images(torch.randn(8, 1, 14, 14), torch.arange(8))
    net, static, plain = SecondOrderCNN(), SecondOrderCNN([2]), EarlyExitCNN()
    assert net(images.pixels).shape == (8, 6, 10) and static(images.pixels).shape == (8, 1, 10)
    assert len(static.stages) == 3 and net.exits[5].weight.shape == plain.exits[5].weight.shape
    found = {
        name: record(of, images).flops_fraction for name, of in (("net", net), ("static", static), ("plain", plain))
    }
    assert 1 < found["plain"][5] < 1.01 < found["net"][5] and (found["net"] > found["plain"]).all()
    assert found["static"][0] < found["net"][2]  # the net has evaluated two more exits


@pytest.mark.parametrize("at", [[5], [1, 3], range(6)])
def test_the_loss_is_the_librarys(at: list[int]) -> None:
    net, images, labels = EarlyExitCNN(at), torch.randn(4, 1, 14, 14), torch.arange(4)
    weights = [0.5 + k for k in range(len(at))]
    assert net(images).shape == (4, len(at), 10)
    expected, _ = dx.training.weighted_loss(net(images), labels, weights)
    assert net.loss(images, labels, weights).item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_epoch_has_its_weights_and_the_network_learns(squares: Images) -> None:
    asked: list[tuple[int, int, int]] = []

    def schedule(epoch: int, epochs: int, n_exits: int) -> list[float]:
        asked.append((epoch, epochs, n_exits))
        return [1.0] * n_exits

    torch.manual_seed(0)
    net = EarlyExitCNN([0, 5])
    train(net, squares, schedule, sgd(net), epochs=30)
    assert asked == [(epoch, 30, 2) for epoch in range(30)]
    assert correct(net, squares).shape == (100, 2) and correct(net, squares).mean(axis=0).min() > 0.9


def test_what_is_frozen_stays(squares: Images) -> None:
    net = EarlyExitCNN([5])
    net.stages[0].requires_grad_(False).eval()
    before = {name: value.clone() for name, value in net.stages[0].state_dict().items()}
    later = net.stages[1][0].weight.detach().clone()
    train(net, squares, uniform, adam(net), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in net.stages[0].state_dict().items())
    assert not torch.equal(net.stages[1][0].weight, later)


def test_seeds_repeat(squares: Images) -> None:
    def trained() -> EarlyExitCNN:
        net = EarlyExitCNN([0, 1])
        train(net, squares, uniform, adam(net), epochs=1)
        return net

    first, again = (repeated(trained, squares, seeds=2) for _ in range(2))
    assert first.shape == (2, 100, 2) and np.array_equal(first, again)

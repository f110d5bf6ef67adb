"""What is drawn inside follows from the seed; what is drawn outside does not notice."""

from __future__ import annotations

import pytest
import torch

from dmpo_explore.utils.torch_tools import seeded


def test_the_same_inside_and_nothing_outside() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(1):
        first = torch.rand(3)
    with pytest.raises(RuntimeError, match="stop"), seeded(1):
        assert torch.equal(torch.rand(3), first)
        raise RuntimeError("stop")
    with seeded(2):
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("used", "kept"), [(True, [0, 1]), (False, [])])
def test_gpus_in_use_are_kept(monkeypatch: pytest.MonkeyPatch, used: bool, kept: list[int]) -> None:
    asked: list[list[int]] = []
    fork = torch.random.fork_rng

    def noted(devices: list[int]) -> object:
        asked.append(devices)
        return fork(devices=[])

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.random, "fork_rng", noted)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    with seeded(1):
        pass
    with seeded(1, gpus=False):
        pass
    assert asked == [kept, []]


def test_the_cpus_generator_alone_draws_the_same() -> None:
    with seeded(3):
        expected = torch.rand(3)
    before = torch.get_rng_state()
    with seeded(3, gpus=False):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
def test_a_gpu_goes_on_as_before() -> None:
    torch.cuda.manual_seed_all(7)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed_all(7)
    with seeded(1):
        torch.rand(3, device="cuda")
    assert torch.equal(torch.rand(3, device="cuda"), expected)

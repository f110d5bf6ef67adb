"""Class balance: the formula against its limits, the draw of an epoch, several processes, resuming."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_config
from torch.utils.data import DataLoader
from two_exits import CONFIG, make_data, make_model, run, weights_of

from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.training.accelerator import make_accelerator
from dmpo_explore.training.loop import Validation, fit
from dmpo_explore.training.losses import BalancedSampler, ClassBalance, class_weights, loss_class_weights
from dmpo_explore.training.parts import Batch
from dmpo_explore.training.train import train_epochs

LABELS = np.repeat([0, 1, 2], [700, 250, 50])


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20).filter(any), st.floats(0, 1))
def test_weights_fall_with_the_count_and_have_mean_one(counts: list[int], beta: float) -> None:
    weights = class_weights(counts, beta)
    assert float(weights @ counts) == pytest.approx(sum(counts))
    assert all((weight == 0) == (n == 0) for weight, n in zip(weights, counts, strict=True))
    some = sorted((n, weight) for n, weight in zip(counts, weights, strict=True) if n)
    assert all(a[1] >= b[1] * (1 - 1e-9) for a, b in pairwise(some))


def test_weights_between_the_same_for_all_and_inverse_frequency() -> None:
    counts = [700, 250, 50, 0]
    assert class_weights(counts).tolist() == pytest.approx([1000 / 3 / 700, 1000 / 3 / 250, 1000 / 3 / 50, 0])
    assert class_weights(counts, 1 - 1e-7).tolist() == pytest.approx(class_weights(counts).tolist(), rel=1e-3)
    assert class_weights(counts, 0.0).tolist() == [1, 1, 1, 0]
    naive = [(1 - 0.99) / (1 - 0.99**n) for n in counts[:3]]  # Cui et al. 2019, equation 7
    assert (class_weights(counts, 0.99)[:3] / class_weights(counts, 0.99)[0]).tolist() == pytest.approx(
        [weight / naive[0] for weight in naive]
    )


def test_the_loss_is_weighted_only_where_that_is_chosen() -> None:
    weights = loss_class_weights(LABELS, 4, replace(CONFIG, class_balance="weights", balance_beta=0.9))
    assert weights is not None and weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(class_weights([700, 250, 50, 0], 0.9).tolist())
    assert loss_class_weights(LABELS, 4, replace(CONFIG, class_balance="sampler")) is None


def test_every_class_of_a_mixed_image_has_its_own_weight() -> None:
    images = ImageSet("made", "train", LABELS, tuple("abcd"), np.arange(len(LABELS)), np.zeros((len(LABELS), 1, 1)))
    balance = ClassBalance(images, replace(CONFIG, class_balance="weights"))
    balance.of_class = torch.tensor([0.5, 2.0, 0.0])
    targets = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.1, 0.9, 0.0]])
    batch = balance.views(Batch(torch.zeros(3, 3, 8, 8), torch.tensor([0, 0, 1]), targets=targets))
    assert batch.targets is not None and batch.targets.sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    weights = balance.image_weights(batch)
    assert weights is not None
    torch.testing.assert_close(weights[:, None] * batch.targets, targets * balance.of_class)


def test_classes_are_drawn_equally_often() -> None:
    sampler = BalancedSampler(LABELS, seed=3)
    rows = [row for epoch in range(10) for row in (sampler.set_epoch(epoch), *sampler)[1:]]
    assert len(rows) == 10 * len(LABELS) and len({tuple(rows[i : i + 1000]) for i in range(0, 10_000, 1000)}) == 10
    shares = np.bincount(LABELS[rows]) / len(rows)
    assert np.abs(shares - 1 / 3).max() < 4 * (2 / 9 / len(rows)) ** 0.5  # four standard errors
    as_they_are = np.bincount(LABELS[list(BalancedSampler(LABELS, beta=0.0))]) / 1000
    assert np.abs(as_they_are - [0.7, 0.25, 0.05]).max() < 4 * (0.21 / 1000) ** 0.5


def test_two_processes_share_one_draw() -> None:
    """What accelerate gives each of two processes are the halves of the batches that one process sees."""

    def batches(processes: int, process: int) -> list[list[int]]:
        loader: Any = DataLoader(range(1000), batch_size=8, sampler=BalancedSampler(LABELS, seed=5))  # type: ignore[arg-type]
        loader = prepare_data_loader(loader, num_processes=processes, process_index=process, split_batches=True,
                                     use_seedable_sampler=True, data_seed=0)  # fmt: skip
        loader.set_epoch(2)
        torch.rand(process)  # the processes' own generators differ
        return [batch.tolist() for batch in loader]

    one, first, second = batches(1, 0), batches(2, 0), batches(2, 1)
    assert [a + b for a, b in zip(first, second, strict=True)] == one


@pytest.mark.parametrize("balance", ["weights", "sampler"])
def test_going_on_equals_never_having_stopped(balance: Any) -> None:
    config, data = replace(CONFIG, epochs=4, predictor_lr=0.02, class_balance=balance, coupling="sigmoid"), make_data()
    labels = data.tensors[1].numpy()
    images = ImageSet("made-up", "train", labels, ("a", "b", "c"), np.arange(len(labels)), [])  # type: ignore[arg-type]

    def go(model: Any, state: Any = None) -> Any:
        part = ClassBalance(images, config)
        sampler = part.sampler(labels)
        loader = DataLoader(data, batch_size=8, shuffle=sampler is None, sampler=sampler)
        return fit(model, loader, config, 2, validate=lambda model: Validation((0.5, 0.6), 0.55), state=state,
                   parts=[part], accelerator=make_accelerator(config, "cpu"))  # fmt: skip

    straight, model = make_model(), make_model()
    epochs = [result.losses for result, _ in go(straight)]
    running = go(model)
    next(running)
    _, state = next(running)
    running.close()
    torch.manual_seed(12345)  # whatever happened in between
    assert [result.losses for result, _ in go(model, state)] == epochs[2:]
    assert torch.equal(weights_of(model), weights_of(straight))
    assert not torch.equal(weights_of(model), weights_of(run(replace(config, class_balance="none"))[0]))


@pytest.mark.parametrize("balance", ["weights", "sampler"])
def test_a_training_balances_its_classes(balance: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    seen: dict[str, Any] = {}

    def look(model: Any, loader: Any, *args: Any, **options: Any) -> Any:
        seen.update(sampler=loader.sampler, parts=options["parts"])
        return fit(model, loader, *args, **options)

    monkeypatch.setattr("dmpo_explore.training.train.fit", look)
    *_, last = train_epochs(tiny_config(40, epochs=1, class_balance=balance), "balanced", device="cpu")
    assert isinstance(seen["sampler"], BalancedSampler) == (balance == "sampler")
    (part,) = seen["parts"]
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))
    assert (part.image_weights(batch) is not None) == (balance == "weights")
    assert last.run is not None and last.run.config.training.class_balance == balance
    assert f"Class balance `{balance}`, β 1. Every class has 4 images." in (last.run.path / "card.md").read_text()

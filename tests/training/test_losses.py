"""Losses against plain loops in numpy, gradients through the coupling, class balance, bad input."""

from __future__ import annotations

import math
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
from torch import Tensor
from torch.utils.data import DataLoader
from two_exits import CONFIG

from dmpo_explore.config import TrainingConfig
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.training import Batch, fit
from dmpo_explore.training.losses import (
    COUPLINGS,
    BalancedSampler,
    ClassBalance,
    class_weights,
    exit_losses,
    image_losses,
    label_losses,
    loss_class_weights,
    weighted_loss,
)
from dmpo_explore.training.train import train_epochs

B, K, C = 5, 3, 4


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(B, K, C, generator=generator)
    return logits.to(dtype), torch.randint(C, (B,), generator=generator)


def loop(logits: Tensor, labels: Tensor, coupling: str) -> list[float]:
    """The definition, one image and one exit at a time."""
    sums = [0.0] * K
    for z, y in zip(logits.double().tolist(), labels.tolist(), strict=True):
        previous = None
        for k in range(K):
            ce = math.log(sum(math.exp(v) for v in z[k])) - z[k][y]
            weight = 1 / (1 + math.exp(-previous)) if coupling == "sigmoid" and previous is not None else 1
            sums[k] += weight * ce
            previous = ce
    return [s / B for s in sums]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # summed in float32
def test_the_weighted_sum_equals_a_plain_loop(coupling: str, dtype: torch.dtype) -> None:
    logits, labels = batch(dtype)
    expected = loop(logits, labels, coupling)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        total, parts = weighted_loss(logits, labels, (0.5, 0.0, 2.0), coupling)
        assert exit_losses(logits, labels, coupling).tolist() == pytest.approx(expected, rel=1e-5)
    assert total.dtype == parts.dtype == torch.float32
    assert parts.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(total) == pytest.approx(0.5 * expected[0] + 2 * expected[2], rel=1e-5)


def test_smoothed_labels_are_a_mixture_of_the_class_and_all_classes() -> None:
    logits, labels = batch()
    every = [loop(logits, torch.full((B,), c), "none") for c in range(C)]
    for share in (0.1, 0.5):
        expected = [(1 - share) * own + share * sum(to_each) / C
                    for own, *to_each in zip(loop(logits, labels, "none"), *every, strict=True)]  # fmt: skip
        assert exit_losses(logits, labels, label_smoothing=share).tolist() == pytest.approx(expected, rel=1e-5)
        total, _ = weighted_loss(logits, labels, (0.5, 0.0, 2.0), label_smoothing=share)
        assert float(total) == pytest.approx(0.5 * expected[0] + 2 * expected[2], rel=1e-5)


def test_coupling_is_not_detached() -> None:
    logits, labels = batch(torch.float64)
    for coupling, flows in (("sigmoid", True), ("none", False)):
        z = logits.clone().requires_grad_()
        exit_losses(z, labels, coupling)[1].backward()
        assert z.grad is not None
        assert (z.grad[:, 0].norm() > 1e-3) == flows
        assert z.grad[:, 1].norm() > 1e-3 and z.grad[:, 2].norm() == 0
    assert torch.autograd.gradcheck(lambda x: exit_losses(x, labels, "sigmoid"), logits.clone().requires_grad_())


def test_solved_images_count_half_at_the_next_exit() -> None:
    logits, labels = batch()
    logits[:, 0] = 50 * torch.nn.functional.one_hot(labels, C)
    plain, coupled = exit_losses(logits, labels), exit_losses(logits, labels, "sigmoid")
    assert float(coupled[1]) == pytest.approx(float(plain[1]) / 2, rel=1e-5)
    assert float(coupled[0]) == float(plain[0]) < 1e-6


def test_one_exit_needs_no_coupling() -> None:
    logits, labels = batch()
    assert torch.equal(exit_losses(logits[:, :1], labels, "sigmoid"), exit_losses(logits[:, :1], labels))


def test_distillation_blends_in_what_the_last_exit_says() -> None:
    logits, labels = batch(torch.float64)
    plain, half, all_of_it = (
        weighted_loss(logits, labels, (1.0,) * K, distill=share)[1].tolist() for share in (0, 0.5, 1)
    )
    teacher = logits[:, -1].softmax(-1)
    soft = [float(-(teacher * logits[:, k].log_softmax(-1)).sum(-1).mean()) for k in range(K - 1)]
    assert all_of_it[:-1] == pytest.approx(soft)
    assert half[:-1] == pytest.approx([(a + b) / 2 for a, b in zip(plain, soft, strict=False)])
    assert half[-1] == all_of_it[-1] == plain[-1]
    z = logits.clone().requires_grad_()
    exit_losses(z, labels, distill=1.0)[:-1].sum().backward()
    assert z.grad is not None
    assert z.grad[:, :-1].norm() > 0.1 and z.grad[:, -1].norm() == 0  # the teacher is not taught


LOGITS, OF_CLASS = batch()


def test_an_unknown_coupling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown coupling 'sigmoidal'.*none, sigmoid"):
        exit_losses(LOGITS, OF_CLASS, "sigmoidal")


def test_images_without_a_label_lose_nothing() -> None:
    logits, labels = batch()
    labelled = torch.tensor([True, False, True, True, False])
    found = image_losses(logits, labels.where(labelled, -1), "sigmoid", 0.3, labelled=labelled)
    assert torch.equal(found[labelled], image_losses(logits, labels, "sigmoid", 0.3)[labelled])
    assert not found[~labelled].any()


def test_targets_take_the_place_of_labels() -> None:
    logits, labels = batch()
    mixed = 0.7 * torch.eye(C)[labels] + 0.3 * torch.eye(C)[labels.flip(0)]
    expected = 0.7 * image_losses(logits, labels) + 0.3 * image_losses(logits, labels.flip(0))
    torch.testing.assert_close(image_losses(logits, labels, targets=mixed), expected)


def test_a_configs_losses_are_those_of_its_options() -> None:
    config = TrainingConfig(coupling="sigmoid", distill=0.3, label_smoothing=0.1)
    found = label_losses(LOGITS, Batch(LOGITS, OF_CLASS), config)
    assert torch.equal(found, image_losses(LOGITS, OF_CLASS, "sigmoid", 0.3, 0.1))


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

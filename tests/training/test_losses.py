"""Losses: against plain loops in numpy, gradients through the coupling, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dmpo_explore.training.losses import COUPLINGS, exit_losses, image_losses, weighted_loss

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
def test_equals_a_plain_loop(coupling: str) -> None:
    logits, labels = batch()
    assert exit_losses(logits, labels, coupling).tolist() == pytest.approx(loop(logits, labels, coupling), rel=1e-5)


def test_smoothed_labels_are_a_mixture_of_the_class_and_all_classes() -> None:
    logits, labels = batch()
    every = [loop(logits, torch.full((B,), c), "none") for c in range(C)]
    for share in (0.1, 0.5):
        expected = [(1 - share) * own + share * sum(to_each) / C
                    for own, *to_each in zip(loop(logits, labels, "none"), *every, strict=True)]  # fmt: skip
        assert exit_losses(logits, labels, label_smoothing=share).tolist() == pytest.approx(expected, rel=1e-5)
        total, _ = weighted_loss(logits, labels, (0.5, 0.0, 2.0), label_smoothing=share)
        assert float(total) == pytest.approx(0.5 * expected[0] + 2 * expected[2], rel=1e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_weighted_sum(coupling: str) -> None:
    logits, labels = batch()
    total, parts = weighted_loss(logits, labels, (0.5, 0.0, 2.0), coupling)
    expected = loop(logits, labels, coupling)
    assert parts.tolist() == pytest.approx(expected, rel=1e-5)
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
    plain, half, all_of_it = (exit_losses(logits, labels, distill=share).tolist() for share in (0, 0.5, 1))
    teacher = logits[:, -1].softmax(-1)
    soft = [float(-(teacher * logits[:, k].log_softmax(-1)).sum(-1).mean()) for k in range(K - 1)]
    assert all_of_it[:-1] == pytest.approx(soft)
    assert half[:-1] == pytest.approx([(a + b) / 2 for a, b in zip(plain, soft, strict=False)])
    assert half[-1] == all_of_it[-1] == plain[-1]
    z = logits.clone().requires_grad_()
    exit_losses(z, labels, distill=1.0)[:-1].sum().backward()
    assert z.grad is not None
    assert z.grad[:, :-1].norm() > 0.1 and z.grad[:, -1].norm() == 0  # the teacher is not taught


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, labels = batch(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        total, parts = weighted_loss(logits, labels, (1.0, 1.0, 1.0), "sigmoid")
    assert total.dtype == parts.dtype == torch.float32
    assert parts.tolist() == pytest.approx(loop(logits, labels, "sigmoid"), rel=1e-5)


def test_bad_shapes_and_names() -> None:
    logits, labels = batch()
    with pytest.raises(ValueError, match=r"unknown coupling 'sigmoidal'.*none, sigmoid"):
        exit_losses(logits, labels, "sigmoidal")


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

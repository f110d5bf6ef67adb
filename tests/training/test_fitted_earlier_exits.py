"""Weights of earlier exits' answers: fitted on held-out training images, the best ones there, kept by runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import CONFIG
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training import train as training
from dmpo_explore.training.fitted_earlier_exits import earlier_weights, objective
from dmpo_explore.training.train import train
from dmpo_explore.training.train_data import hold_out

READING = replace(CONFIG, model=replace(CONFIG.model, earlier_exits=True))


def answers(n: int = 400, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three exits that err on different images, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    noise = torch.randn(n, 3, classes, generator=generator) * torch.tensor([2.0, 1.5, 1.2])[:, None]
    return 2 * torch.eye(classes)[labels][:, None] + noise, labels


def test_the_weights_have_the_least_loss() -> None:
    logits, labels = answers()
    logits[:, 1] = -logits[:, 1]  # exit 2 is incorrect: only a negative weight would use it
    said = logits.double().log_softmax(-1)
    for k, weights in enumerate(earlier_weights(logits, labels)):
        own = torch.eye(k + 1, dtype=torch.float64)[-1]
        w = weights.double().requires_grad_()

        def loss(w: torch.Tensor, k: int = k, own: torch.Tensor = own) -> torch.Tensor:
            answer = torch.einsum("j,bjc->bc", w, said[:, : k + 1])
            return F.cross_entropy(answer, labels) + (w - own).square().sum() / (2 * len(labels))

        (slope,) = torch.autograd.grad(loss(w), w)
        assert (slope[weights > 0].abs() < 2e-3).all() and (slope[weights == 0] > 0).all()  # no step at w ≥ 0 is better
        assert loss(w) < loss(own) - 1e-3
        value, gradient = objective(w.detach().numpy(), said[:, : k + 1].numpy(), labels.numpy())
        assert value == pytest.approx(loss(w).item()) and gradient == pytest.approx(slope.numpy(), abs=1e-9)
    assert weights[0] > 0.1 and weights[1] == 0 and weights[2] > 0.1


def test_weights_stay_finite_where_all_are_correct_and_nan_is_refused() -> None:
    labels = torch.arange(20) % 2
    perfect = 50 * torch.eye(2)[labels][:, None].repeat(1, 2, 1)
    assert all(torch.isfinite(w).all() and w.abs().max() < 5 for w in earlier_weights(perfect, labels))
    with pytest.raises(ValueError, match="NaN"):
        earlier_weights(torch.full((2, 2, 2), torch.nan), labels[:2])


def test_a_tenth_of_the_training_images_is_held_out() -> None:
    images = dx.load_images("digits", "train")
    kept, held = hold_out(images, READING, 3)
    assert held is not None and not set(kept.indices) & set(held.indices)
    assert len(held) == len(images) // 10 and len(kept) + len(held) == len(images)
    assert np.bincount(held.labels).min() >= 10
    again = hold_out(images, READING, 3)[1]
    assert again is not None and (again.indices == held.indices).all()
    assert hold_out(images, CONFIG, 3) == (images, None) and hold_out(images, READING, 1) == (images, None)
    threes = images.labels == 3
    lonely = images.subset(np.r_[np.flatnonzero(~threes)[:50], np.flatnonzero(threes)[:1]])
    with pytest.raises(ValueError, match="class '3' has 1 image;"):
        hold_out(lonely, READING, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("runs")
def test_a_run_fits_them_on_images_it_is_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[ImageSet] = []
    loader = training.training_loader

    def seen(images: ImageSet, *rest: Any) -> Any:
        trained.append(images)
        return loader(images, *rest)

    monkeypatch.setattr(training, "training_loader", seen)
    run = train(READING, "run", device="cpu")
    split = run.split_images("train")
    _, held = hold_out(split, READING, 3)
    assert held is not None and len(trained[0]) + len(held) == len(split)
    assert not set(trained[0].indices) & set(held.indices)
    weights = {name: w for name, w in read_weights(run.path).items() if name.endswith("earlier.weights")}
    assert [len(w) for w in weights.values()] == list(range(1, len(weights) + 1))
    assert all(not torch.equal(w, torch.eye(len(w))[-1]) for w in weights.values())
    model = run.model("cpu")
    with torch.no_grad():
        images = run.inputs("train", np.isin(split.indices, held.indices))
        own = torch.stack([output.own_logits for output in model.walk(images)], dim=1)
    for w, expected in zip(weights.values(), earlier_weights(own, torch.from_numpy(held.labels)), strict=True):
        torch.testing.assert_close(w, expected, atol=1e-3, rtol=1e-3)
    assert f"{len(trained[0]):,} training images" in (run.path / "card.md").read_text(encoding="utf-8")

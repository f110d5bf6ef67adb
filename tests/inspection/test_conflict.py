"""Gradient conflict equals `.backward()` by hand on the shared weights and leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_model import made, pictures
from torch import Tensor

from dmpo_explore.inspection.conflict import gradient_conflict, shared_parameters
from dmpo_explore.models.dmpo import DMPO
from dmpo_explore.training.losses import exit_losses

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def by_hand(model: DMPO, exit: int, loss: int, coupling: str) -> Tensor:
    """Gradient of one exit's loss by backward, on trainable weights in trunks up to ``exit``."""
    model.zero_grad()
    exit_losses(model(pictures(6)), LABELS, coupling)[loss].backward()  # type: ignore[no-untyped-call]
    names = tuple(f"stages.{k}.trunk." for k in range(exit + 1))
    weights = [p for name, p in model.named_parameters() if p.requires_grad and name.startswith(names)]
    flat = torch.cat([p.grad.flatten() for p in weights if p.grad is not None])
    model.zero_grad()
    return flat.double()


@pytest.mark.parametrize(("tuning", "coupling"), [("lora", "none"), ("adapter", "sigmoid")])
def test_cosines_are_those_of_backward(tuning: str, coupling: str) -> None:
    model = made(tuning=tuning)
    table = gradient_conflict(model, pictures(6), LABELS, coupling=coupling, batch_size=4)
    assert list(table.columns) == ["exit", "cosine", "early_norm", "last_norm", "opposed"]
    assert list(table["exit"]) == [1, 2]
    for k, row in enumerate(table.to_dict("records")):
        early, last = by_hand(model, k, k, coupling), by_hand(model, k, 2, coupling)
        assert row["early_norm"] == pytest.approx(float(early.norm()), rel=1e-4)
        assert row["last_norm"] == pytest.approx(float(last.norm()), rel=1e-4)
        assert row["cosine"] == pytest.approx(float(early @ last / early.norm() / last.norm()), abs=1e-4)


def test_the_batch_size_changes_only_what_batches_say() -> None:
    whole, parts = (gradient_conflict(made(), pictures(6), LABELS, batch_size=size) for size in (6, 4))
    kept = ["exit", "cosine", "early_norm", "last_norm"]
    np.testing.assert_allclose(whole[kept], parts[kept], rtol=1e-4)
    assert list(whole["opposed"]) == [float(cosine < 0) for cosine in whole["cosine"]]
    assert set(parts["opposed"].round(6)) <= {0.0, round(2 / 6, 6), round(4 / 6, 6), 1.0}


def test_two_exits_with_one_aim_agree_and_with_contrary_aims_oppose() -> None:
    """The second trunk adds nothing: both exits read the same tokens with the same predictor, or with its negative."""
    model: Any = made(exits=2, tuning="full", bypass="none", predictor="linear")
    model.stages[1].trunk = torch.nn.Identity()
    model.stages[1].norm, model.stages[1].predictor = model.stages[0].norm, model.stages[0].predictor
    model.stages[1].scale = model.stages[0].scale
    assert gradient_conflict(model, pictures(6), LABELS)["cosine"][0] == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        model.stages[0].scale.fill_(1e-4)  # nearly even odds, so that only the direction counts
        model.stages[1].scale = torch.nn.Parameter(torch.tensor(-1e-4))
    assert gradient_conflict(model, pictures(6), LABELS)["cosine"][0] == pytest.approx(-1, abs=1e-4)


def test_only_tuned_weights_of_the_trunk_are_shared() -> None:
    model = made(tuning="lora")
    names = {id(p): name for name, p in model.named_parameters()}
    for k in range(2):
        shared = [names[id(p)] for p in shared_parameters(model, k)]
        assert shared
        assert {name.split(".")[1] for name in shared} == {str(j) for j in range(k + 1)}
        assert all(".trunk." in name and "lora" in name for name in shared)


def test_the_model_is_left_as_it_was() -> None:
    model: Any = made(dropout=0.5).train()
    model.stages[0].norm.eval()
    modes = [module.training for module in model.modules()]
    model(pictures(2)).sum().backward()
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    with torch.no_grad():  # asking inside a no-gradient block works too
        first, again = (gradient_conflict(model, pictures(6), LABELS) for _ in range(2))
    assert first.equals(again)  # no dropout
    assert [module.training for module in model.modules()] == modes
    for p, grad in zip(model.parameters(), before, strict=True):
        assert (p.grad is None) == (grad is None)
        assert grad is None or torch.equal(p.grad, grad)


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        ({"exits": 1}, LABELS, "single exit"),
        ({"tuning": "none"}, LABELS, "tuning='none'"),
        ({}, LABELS[:5], "6 images and 5 labels"),
    ],
)
def test_nothing_shared_is_refused(changes: dict[str, Any], labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gradient_conflict(made(**changes), pictures(6), labels)


def test_earlier_answers_do_not_count_as_in_training() -> None:
    plain, reading = made(tuning="lora"), made(tuning="lora", earlier_exits=True)
    reading.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for stage in reading.stages:
            assert stage.earlier is not None
            stage.earlier.weights.copy_(torch.ones_like(stage.earlier.weights))
    expected, found = (gradient_conflict(model, pictures(6), LABELS) for model in (plain, reading))
    np.testing.assert_allclose(found["cosine"], expected["cosine"], atol=1e-5)

"""Exits that also read earlier exits' answers: the sum, the walk, steps, records, early stops, exports, FLOPs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_model import FLOP_CLASSES, matmul, measured
from spread_model import B, C, K, made, pictures, policies, recorded

import dmpo_explore as dx
from dmpo_explore.config import Config, ModelConfig
from dmpo_explore.inference.live import to_the_end
from dmpo_explore.models.factory import assemble, build_reference


def reading(**changes: Any) -> Any:
    """A random model whose exits read earlier ones with weights far from the first ones."""
    model = made(earlier_exits=True, **changes)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for stage in model.stages:
            stage.earlier.weights.copy_(torch.rand(len(stage.earlier.weights), generator=generator) + 0.2)
    return model


def own_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([output.own_logits for output in model.walk(pictures())], dim=1)


def test_an_answer_is_the_weighted_sum_of_log_probabilities() -> None:
    model = reading()
    own, found = own_logits(model).double(), model(pictures()).detach()
    expected = torch.zeros(B, K, C, dtype=torch.float64)
    for k, stage in enumerate(model.stages):
        for j, weight in enumerate(stage.earlier.weights.tolist()):
            probabilities = own[:, j].exp() / own[:, j].exp().sum(dim=1, keepdim=True)
            expected[:, k] += weight * probabilities.log()
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    assert (found.argmax(-1) != own.argmax(-1)).any()


def test_a_new_model_answers_as_without_the_option() -> None:
    plain, model = made(), made(earlier_exits=True)
    with torch.no_grad():
        torch.testing.assert_close(model(pictures()), plain(pictures()).log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_exits_are_trained_on_their_own_answers() -> None:
    model = reading().train()
    torch.testing.assert_close(model(pictures()), own_logits(model))
    model(pictures()).sum().backward()
    assert all(stage.earlier.weights.grad is None for stage in model.stages)
    assert all(stage.scale.grad is not None for stage in model.stages)


def test_what_is_handed_on_are_the_answers_so_far() -> None:
    model = reading()
    with torch.no_grad():
        outputs = list(model.walk(pictures()))
    assert [output.side.shape for output in outputs if output.side is not None] == [(B, k + 1, C) for k in range(K)]
    assert to_the_end(model, pictures()).tolist() == outputs[-1].logits.argmax(-1).tolist()


@pytest.mark.slow
def test_an_export_gives_the_models_answers(tmp_path: Any) -> None:
    model = reading(exits=(1, 2, 3))
    policy = next(policies(recorded(model)))
    folder = dx.inference.export_model(model, tmp_path / "out", policy, [str(c) for c in range(C)])
    engine = dx.OnnxEngine(folder)
    with torch.no_grad():
        expected = model(pictures())
    np.testing.assert_allclose(engine.all_logits(pictures().numpy()), expected.numpy(), atol=1e-4)
    out = engine.infer(pictures().numpy())
    np.testing.assert_array_equal(out.exit, policy.exits(recorded(model)))
    assert engine.facts["stages"][1]["inputs"] == ["state", "side"]


def test_the_answers_are_float32_under_autocast() -> None:
    model = reading()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        *_, last = model.walk(pictures())
        assert last.logits.dtype == torch.float32 and last.own_logits.dtype == torch.bfloat16
        weights, said = model.stages[-1].earlier.weights, last.side
    torch.testing.assert_close(last.logits, torch.einsum("k,bkc->bc", weights, said))


@pytest.mark.slow
def test_flops_and_parameters_count_the_products() -> None:
    (_, plain), (_, cost) = measured(), measured(earlier_exits=True)
    added = [matmul(1, k, FLOP_CLASSES) for k in (1, 2, 3)]
    assert [a - b for a, b in zip(cost.predictor, plain.predictor, strict=True)] == added
    assert cost.cumulative[-1] - plain.cumulative[-1] == sum(added) and cost.reference == plain.reference
    assert cost.parameters["predictor"] - plain.parameters["predictor"] == 1 + 2 + 3


def test_what_is_drawn_of_an_exit_adds_up() -> None:
    model = reading()
    found = dx.attribute_pathways(model, pictures(1)[0], target=0)
    np.testing.assert_allclose(found.logit, own_logits(model)[0, :, 0], atol=1e-4)
    np.testing.assert_allclose(found.trunk + found.bypass, found.difference + found.delta, atol=1e-4)


def test_off_by_default_and_nothing_to_read_with_one_exit() -> None:
    assert not ModelConfig().earlier_exits
    assert "--earlier-exits" in Config(model=ModelConfig(earlier_exits=True)).to_arguments()
    one = ModelConfig("test_vit", "random", 32, exits=1, earlier_exits=True)
    for config in (ModelConfig("test_vit", "random", 32), one):
        assert all(stage.earlier is None for stage in assemble(config, 3).stages)
    reference = build_reference(ModelConfig("test_vit", "random", 32, exits=2, earlier_exits=True), 3)
    assert all(stage.earlier is None for stage in reference.stages)


def test_the_option_is_yes_or_no() -> None:
    with pytest.raises(ValueError, match="earlier_exits"):
        Config.from_dict({"model": {"earlier_exits": "yes"}})

"""Attributions are complete, point at the evidence, and explain what the model predicts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from small_model import GRID, READS, SMOOTH, K, image, made, reading_model

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.methods import METHODS


@pytest.mark.parametrize("exit", range(K))
@pytest.mark.parametrize("method", ["integrated_gradients", "layer_integrated_gradients"])
def test_values_add_up_to_the_logit_difference(method: str, exit: int) -> None:
    model = made(**SMOOTH)
    found = attribute(model, image(), exit, target=2, method=method, baseline="mean")
    with torch.no_grad():
        there, nothing = (model(x[None])[0, exit, 2].item() for x in (image(), torch.zeros(3, 32, 32)))
    assert found.difference == pytest.approx(there - nothing, abs=1e-5)
    assert found.logit == pytest.approx(there, abs=1e-5)
    assert found.delta is not None
    assert abs(found.delta) < 0.02 * max(abs(found.difference), 1)
    total = float(found.tokens.sum() + found.prefix.sum())
    assert total == pytest.approx(found.difference + found.delta, abs=1e-4)
    assert found.heat.sum() == pytest.approx(found.tokens.sum(), abs=1e-4)


@pytest.mark.parametrize("change", [{"bypass": "ladder"}, {"earlier_exits": True}])
def test_one_layers_tokens_are_refused_where_the_exit_reads_earlier_ones_too(change: dict[str, Any]) -> None:
    model, method = made(**SMOOTH, **change), "layer_integrated_gradients"
    for exit, layer in ((0, None), (1, model.exits[0])):  # nothing beside them, or all of it behind them
        found = attribute(model, image(), exit, target=2, method=method, layer=layer)
        assert found.delta is not None and abs(found.delta) < 0.02 * max(abs(found.difference), 1)
    with pytest.raises(ValueError, match=f"exit 2 reads earlier exits beside.*use layer={model.exits[0]} or below"):
        attribute(model, image(), 1, method=method)


def test_second_order_exits_are_complete_within_the_bound() -> None:
    model = made()
    for found in compare_exits(model, image(), target=1).attributions:
        assert found.delta is not None
        assert abs(found.delta) <= 0.05 * max(abs(found.difference), 1)
        assert found.heat.sum() == pytest.approx(found.difference + found.delta, abs=1e-3)


@pytest.mark.parametrize("exit", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_one_patch_that_is_read(method: str, exit: int) -> None:
    found = attribute(reading_model(), image(), exit, target=0, method=method, baseline="mean")
    size = np.abs(found.tokens)
    assert found.tokens.shape == (GRID, GRID)
    reads = READS[0 if method == "attention_rollout" else exit]  # which only sees where tokens come from
    assert np.unravel_index(size.argmax(), size.shape) == reads
    pixels = np.abs(found.heat).reshape(GRID, 8, GRID, 8).sum(axis=(1, 3))
    assert np.unravel_index(pixels.argmax(), pixels.shape) == reads
    size[reads] = 0
    if method not in ("occlusion", "attention_rollout"):  # half-cell windows touch neighbours; rollout mixes
        assert size.max() < 1e-5


def test_the_target_defaults_to_the_prediction() -> None:
    model = made(**SMOOTH)
    with torch.no_grad():
        said = model(image()[None])[0].argmax(-1).tolist()
    assert [attribute(model, image(), k, method="saliency").target for k in range(K)] == said
    compared = compare_exits(model, image()[None], method="saliency")
    assert compared.target == said[-1]
    assert {a.target for a in compared.attributions} == {said[-1]}
    assert compare_exits(model, image(), method="saliency", exits=[0, 1]).target == said[1]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet"])
def test_maps_of_convolutional_backbones(backbone: str) -> None:
    model = made(backbone=backbone, exits=2, predictor="linear")
    for method in METHODS:
        for exit, stage in enumerate(model.stages):
            if method == "attention_rollout":
                with pytest.raises(ValueError, match="attention between all tokens.*keeps maps"):
                    attribute(model, image(), exit, method=method)
                continue
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*convergence delta")
                found = attribute(model, image(), exit, target=1, method=method, baseline="mean")
            assert found.tokens.shape == stage.grid
            assert found.heat.shape == (32, 32)
            assert np.abs(found.heat).max() > 0
            if found.delta is not None:
                assert found.tokens.sum() == pytest.approx(found.difference + found.delta, abs=1e-3)


def test_nothing_runs_behind_the_last_exit_that_is_compared() -> None:
    model, runs = made(**SMOOTH), list[int]()
    for k, stage in enumerate(model.stages):
        stage.trunk.register_forward_hook(lambda *_, k=k: runs.append(k))  # type: ignore[misc]
    compared = compare_exits(model, image(), 1, exits=[0, 1], baseline="mean")
    assert set(runs) == {0, 1}
    for found in compared.attributions:
        alone = attribute(model, image(), found.exit, 1, baseline="mean")
        np.testing.assert_allclose(found.heat, alone.heat, atol=1e-5)
    last = compare_exits(model, image(), 1, exits=[0, 2], baseline="mean").attributions[1]
    np.testing.assert_allclose(last.heat, attribute(model, image(), 2, 1, baseline="mean").heat, atol=1e-5)


def test_the_score_of_every_exit_is_explained_for_its_own_prediction() -> None:
    model, pixels = made(), image()
    found = compare_exits(model, pixels, "score", "input_x_gradient")
    assert found.target is None and {one.unit for one in found.attributions} == {"log-probability, to first order"}
    with torch.no_grad():
        log_confidence = model(pixels[None])[0].log_softmax(-1).amax(-1)
        predicted = model(pixels[None])[0].argmax(-1)
    assert [one.target for one in found.attributions] == predicted.tolist()
    assert [one.logit for one in found.attributions] == pytest.approx(log_confidence.tolist(), abs=1e-5)
    whole = pixels[None].clone().requires_grad_()
    model(whole)[0, 1].log_softmax(-1).max().backward()
    expected = (whole.grad * whole)[0].sum(0).detach().numpy()
    assert np.allclose(found.attributions[1].heat, expected, atol=1e-5)

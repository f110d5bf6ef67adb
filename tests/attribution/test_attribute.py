"""Attributions are complete, point at the evidence, are cached, and leave the model as it was."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reading_model import GRID, READS, reading_model
from small_model import C, K, made, pictures
from torch import Tensor

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.catalogue import METHODS, REFUSED

SMOOTH: dict[str, Any] = {"predictor": "linear"}
ADDITIVE = [name for name, method in METHODS.items() if method.additive]


def image() -> Tensor:
    return pictures(1)[0]


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


# -- refusals --


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("deep_lift", "LayerNorm"),
        ("deep_lift_shap", "LayerNorm"),
        ("lrp", "no rule for LayerNorm"),
        ("layer_grad_cam", "collapses the tokens"),
    ],
)
def test_misleading_methods_are_refused_with_the_reason(method: str, reason: str) -> None:
    assert method in REFUSED
    with pytest.raises(ValueError, match=f"{method}.*refused.*{reason}"):
        attribute(made(), image(), 0, method=method)
    with pytest.raises(ValueError, match="refused"):
        compare_exits(made(), image(), method=method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exit": 3}, "exit=3.*exits 0 to 2"),
        ({"exit": -1}, "exit=-1"),
        ({"target": C}, f"target={C}.*classes 0 to {C - 1}"),
        ({"method": "gradcam"}, "unknown method 'gradcam'.*integrated_gradients"),
        ({"steps": 16}, "steps=16: at least 50"),
        ({"batch": 0}, "batch=0"),
        ({"baseline": "white"}, "unknown baseline 'white'.*black, blur, mean"),
        ({"baseline": torch.zeros(2, 3, 32, 32)}, "stack of 2 baselines"),
        ({"layer": 2}, "layer=2 is for layer_integrated_gradients"),
        ({"layer": 3, "method": "token_grad_cam"}, "layer=3 lies behind exit 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute(made(), image(), **{"exit": 0, **arguments})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 48, 48), r"shape \(3, 48, 48\)"),
        (torch.zeros(2, 3, 32, 32), r"shape \(2, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 32, 32), torch.nan), "NaN"),
    ],
)
def test_a_wrong_image_is_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute(made(), wrong, 0)


def test_exits_to_compare_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        compare_exits(made(), image(), exits=[1, 0])


def test_a_large_delta_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.attribution.query.DELTA_BOUND", 1e-7)
    with pytest.warns(UserWarning, match=r"exit 1: convergence delta .* after \d+ steps, above the bound"):
        found = attribute(made(), image(), 0)
    assert found.steps in (64, 128, 256)  # doubled twice, the best is kept


# -- left alone --


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = made(tuning="lora", predictor="linear")
    model.train()
    model.stages[1].eval()
    modes = [m.training for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    fused = [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    generators = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    x = image()
    with torch.inference_mode():
        attribute(model, x, 2, method=method)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")] == fused
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]  # noqa: NPY002
    assert not x.requires_grad


def test_an_interruption_restores_too() -> None:
    model = made().train()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(model, image(), 1, method="occlusion", progress=stop)
    assert all(m.training for m in model.stages.modules())  # type: ignore[attr-defined]
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.filterwarnings("ignore:gradient_shap at exit 2. convergence delta")
@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_its_end(method: str) -> None:
    calls: list[tuple[int, int]] = []
    attribute(made(**SMOOTH), image(), 1, method=method, progress=lambda *call: calls.append(call))
    done, totals = [c[0] for c in calls], {c[1] for c in calls}
    assert len(totals) == 1
    assert done == sorted(done)
    assert done[-1] == totals.pop()


def test_progress_of_a_comparison() -> None:
    calls: list[tuple[int, int]] = []
    compare_exits(made(**SMOOTH), image(), progress=lambda *call: calls.append(call))
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)
    assert calls[-1] == (1000, 1000)
    assert len(calls) >= 3


# -- other backbones --


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


# -- cache --


def test_a_repeated_query_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(**SMOOTH)
    first = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    assert sorted(p.name for p in kept[0].iterdir()) == ["answer.json", "heat.npy", "prefix.npy", "tokens.npy"]
    module = importlib.import_module("dmpo_explore.attribution.attribute")  # the package gives the function that name
    with monkeypatch.context() as patch:
        patch.setattr(module, "_explain", lambda *a: pytest.fail("computed again"))
        again = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    for name in ("heat", "tokens", "prefix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    same = ("target", "exit", "method", "delta", "steps", "layer", "logit", "difference", "unit", "additive")
    assert [getattr(again, n) for n in same] == [getattr(first, n) for n in same]
    assert again.quality(samples=4, perturbations=1, orders=1).unexplained >= 0


def test_other_weights_images_or_arguments_have_other_keys(tmp_path: Path) -> None:
    model = made(**SMOOTH)

    def ask(x: Tensor, **arguments: Any) -> int:
        attribute(model, x, 1, **{"target": 0, "method": "saliency", "cache": tmp_path, **arguments})
        return len(list(tmp_path.iterdir()))

    assert [ask(image()), ask(image()), ask(image() + 0.1), ask(image(), target=1)] == [1, 1, 2, 3]
    assert ask(image(), method="input_x_gradient") == 4
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(0.01)
    assert ask(image()) == 5


@pytest.mark.parametrize("broken", ["heat.npy", "answer.json"])
def test_a_broken_cache_file_is_written_again(tmp_path: Path, broken: str) -> None:
    model = made(**SMOOTH)
    first = attribute(model, image(), 0, method="saliency", cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    whole = (folder / broken).read_bytes()
    (folder / broken).write_bytes(whole[:20])
    again = attribute(model, image(), 0, method="saliency", cache=tmp_path)
    np.testing.assert_array_equal(again.heat, first.heat)
    assert (folder / broken).read_bytes() == whole


def test_without_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))
    attribute(made(**SMOOTH), image(), 0, method="saliency")
    assert not list(tmp_path.iterdir())
    attribute(made(**SMOOTH), image(), 0, method="saliency", cache=True)
    assert len(list((tmp_path / "attributions").iterdir())) == 1


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


@pytest.mark.parametrize("broken", [OSError("disk full"), ValueError("nan")])
def test_a_map_that_cannot_be_cached_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    def refuse(*_: Any) -> None:
        raise broken

    model = made(**SMOOTH)
    expected = attribute(model, image(), 0, 1, "saliency")
    monkeypatch.setattr("dmpo_explore.attribution.cache.write", refuse)
    with pytest.warns(UserWarning, match=f"could not be kept in .*: {broken}"):
        found = attribute(model, image(), 0, 1, "saliency", cache=tmp_path)
    np.testing.assert_array_equal(found.heat, expected.heat)

"""Attributions are complete, point at the evidence, are cached, leave the model as it was, and refuse what misleads."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from small_model import GRID, READS, SMOOTH, C, K, image, made, pictures, reading_model
from torch import Tensor, nn

from dmpo_explore.attribution.attribute import (
    ExitComparison,
    attribute,
    cache_folder,
    compare_exits,
    fingerprint,
    map_key,
    read_map,
    write_map,
)
from dmpo_explore.attribution.methods import METHODS, REFUSED
from dmpo_explore.attribution.pathways import attribute_pathways


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


@pytest.mark.slow
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


def test_a_comparison_has_one_scale_and_differences() -> None:
    compared = compare_exits(made(predictor="linear"), pictures(1)[0], target=1, method="feature_ablation")
    assert isinstance(compared, ExitComparison)
    assert compared.exits == tuple(range(K))
    assert compared.heat.shape == (K, 32, 32)
    assert compared.scale == np.abs(compared.heat).max()
    np.testing.assert_allclose(compared.differences(), compared.heat[1:] - compared.heat[:-1])
    np.testing.assert_allclose(np.abs(compared.shares).sum(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(compared.differences(shares=True), np.diff(compared.shares, axis=0))
    likeness = compared.similarity()
    np.testing.assert_allclose(np.diag(likeness), 1)
    flat = compared.heat.reshape(K, -1).astype(float)
    expected = flat[0] @ flat[2] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[2])
    assert likeness[0, 2] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("deep_lift", "LayerNorm"),
        ("deep_lift_shap", "LayerNorm"),
        ("lrp", "no rule for LayerNorm"),
        ("layer_grad_cam", "the tokens are averaged away"),
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
        ({"steps": 16}, "steps=16 must be at least 50"),
        ({"baseline": "white"}, "unknown baseline 'white'.*black, blur, mean"),
        ({"baseline": torch.zeros(2, 3, 32, 32)}, "stack of 2 baselines"),
        ({"layer": 2}, "layer=2 is for layer_integrated_gradients"),
        ({"layer": 3, "method": "token_grad_cam"}, "layer=3 is after exit 1"),
        ({"image": torch.zeros(3, 48, 48)}, r"shape \(3, 48, 48\)"),
        ({"image": torch.zeros(2, 3, 32, 32)}, r"shape \(2, 3, 32, 32\)"),
        ({"image": torch.zeros(3, 32, 32, dtype=torch.uint8)}, "torch.uint8"),
        ({"image": torch.full((3, 32, 32), torch.nan)}, "NaN"),
        ({"exits": [1, 0]}, "must rise"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    asked = {"image": image()} | arguments
    with pytest.raises(ValueError, match=message):
        if "exits" in asked:
            compare_exits(made(), **asked)
        attribute(made(), **{"exit": 0} | asked)


def test_a_large_delta_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.attribution.exit_model.DELTA_BOUND", 1e-7)
    with pytest.warns(UserWarning, match=r"exit 1: convergence delta .* after \d+ steps, above the bound"):
        found = attribute(made(), image(), 0)
    assert found.steps in (64, 128, 256)  # doubled twice, the best is kept


def state_of(model: Any) -> list[Any]:
    """All that an attribution could leave changed, of the model and of the generators."""
    attentions = [m for m in model.modules() if hasattr(m, "fused_attn")]
    return [
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [m.fused_attn for m in attentions],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        [p.grad is None for p in model.parameters()],
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    ]


@pytest.mark.parametrize("method", [*METHODS, "pathways", "interrupted"])
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = made(tuning="lora", predictor="linear").train()
    model.stages[1].eval()
    before, x = state_of(model), image()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with torch.inference_mode():
        if method == "pathways":
            attribute_pathways(model, x, exits=[0])
        elif method == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                attribute(model, x, 1, method="occlusion", progress=stop)
        else:
            attribute(model, x, 2, method=method)
    assert state_of(model) == before and all(p.grad is None for p in model.parameters())
    assert not x.requires_grad


@pytest.mark.filterwarnings("ignore:gradient_shap at exit 2. convergence delta")
@pytest.mark.parametrize("method", [*(pytest.param(name, marks=pytest.mark.slow) for name in METHODS), "compare_exits"])
def test_progress_rises_to_its_end(method: str) -> None:
    calls: list[tuple[int, int]] = []
    if method == "compare_exits":
        compare_exits(made(**SMOOTH), image(), progress=lambda *call: calls.append(call))
    else:
        attribute(made(**SMOOTH), image(), 1, method=method, progress=lambda *call: calls.append(call))
    done, (total,) = [c[0] for c in calls], {c[1] for c in calls}
    assert done == sorted(done) and done[-1] == total
    assert method != "compare_exits" or (total == 1000 and len(calls) >= 3)


def test_a_repeated_query_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(**SMOOTH)
    first = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    assert sorted(p.name for p in kept[0].iterdir()) == ["answer.json", "heat.npy", "prefix.npy", "tokens.npy"]
    module = sys.modules["dmpo_explore.attribution.attribute"]  # the package gives the function that name
    with monkeypatch.context() as patch:
        patch.setattr(module, "_explain", lambda *a: pytest.fail("computed again"))
        again = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    for name in ("heat", "tokens", "prefix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    same = ("target", "exit", "method", "delta", "steps", "layer", "logit", "difference", "unit", "additive")
    assert [getattr(again, n) for n in same] == [getattr(first, n) for n in same]
    unexplained = [one.quality(samples=4, perturbations=1, orders=1).unexplained for one in (first, again)]
    assert unexplained[1] == pytest.approx(unexplained[0])


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


@pytest.mark.parametrize("broken", [OSError("disk full"), ValueError("nan")])
def test_a_map_that_cannot_be_cached_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    model = made(**SMOOTH)
    expected = attribute(model, image(), 0, 1, "saliency")
    module = sys.modules["dmpo_explore.attribution.attribute"]  # the package gives the function that name
    monkeypatch.setattr(module, "write_map", Mock(side_effect=broken))
    with pytest.warns(UserWarning, match=f"could not be kept in .*: {broken}"):
        found = attribute(model, image(), 0, 1, "saliency", cache=tmp_path)
    np.testing.assert_array_equal(found.heat, expected.heat)


ARRAYS = {
    "heat": np.ones((8, 8), np.float32),
    "tokens": np.ones((2, 2), np.float32),
    "prefix": np.zeros(0, np.float32),
}
NUMBERS: dict[str, Any] = {"delta": None, "steps": 64, "layer": ""}


@pytest.mark.parametrize(
    ("asked", "place"), [(None, None), (False, None), (True, Path("mine/attributions")), ("here", Path("here"))]
)
def test_where_it_lies(asked: Any, place: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", "mine")
    assert cache_folder(asked) == place


def test_a_fingerprint_knows_weights_buffers_and_structure() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    first = fingerprint(model)
    assert fingerprint(model) == first
    model[1].running_mean.add_(1)  # type: ignore[union-attr,operator]
    second = fingerprint(model)
    with torch.no_grad():
        model[0].bias[0] += 1  # type: ignore[index,operator]
    third = fingerprint(model)
    model.append(nn.GELU())
    assert len({first, second, third, fingerprint(model)}) == 4


def test_a_key_knows_arguments_and_tensors() -> None:
    x = torch.zeros(3)
    keys = {
        map_key("w", {"image": x}, {"steps": 64}),
        map_key("v", {"image": x}, {"steps": 64}),
        map_key("w", {"image": x + 1}, {"steps": 64}),
        map_key("w", {"baseline": x}, {"steps": 64}),
        map_key("w", {"image": x}, {"steps": 65}),
        map_key("w", {"image": x.double()}, {"steps": 64}),
    }
    assert len(keys) == 6
    assert map_key("w", {"image": x.clone()}, {"steps": 64}) in keys


def test_written_and_read(tmp_path: Path) -> None:
    assert read_map(tmp_path, "a", 8) is None
    write_map(tmp_path, "a", ARRAYS, NUMBERS)
    found = read_map(tmp_path, "a", 8)
    assert found is not None
    assert found[1] == NUMBERS
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[0][name], value)
    assert read_map(tmp_path, "a", 9) is None  # a map of another size


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("answer.json", b"{"),
        ("answer.json", b"[]"),
        ("answer.json", b'{"format": 1, "steps": 1}'),
        ("answer.json", b'{"format": 2, "delta": null, "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 64, "layer": "", "more": 1}'),
        ("answer.json", b'{"format": 1, "delta": "0.1", "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": NaN, "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 6.5, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": true, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 64, "layer": 3}'),
        ("heat.npy", b"PK\x03\x04 no archive"),
        ("heat.npy", b""),
        ("heat.npy", b"\x93NUMPY"),
        ("tokens.npy", b"not an array"),
    ],
)
def test_broken_is_absent(tmp_path: Path, file: str, content: bytes) -> None:
    write_map(tmp_path, "a", ARRAYS, NUMBERS)
    (tmp_path / "a" / file).write_bytes(content)
    assert read_map(tmp_path, "a", 8) is None


def test_nan_and_pickles_are_absent(tmp_path: Path) -> None:
    write_map(tmp_path, "a", {**ARRAYS, "heat": np.full((8, 8), np.nan, np.float32)}, NUMBERS)
    write_map(tmp_path, "b", ARRAYS, NUMBERS)
    np.save(tmp_path / "b" / "heat.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert read_map(tmp_path, "a", 8) is read_map(tmp_path, "b", 8) is None

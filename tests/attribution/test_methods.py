"""Every method equals Captum, or its definition, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from small_model import made, pictures, smooth
from torch import Tensor, nn

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.exit_model import ExitView, Query, readable_layer
from dmpo_explore.attribution.methods import (
    METHODS,
    attention_maps,
    integrate,
    integrate_exits,
    occlusion,
    occlusion_rows,
    roll_out,
    rollout,
    token_grad_cam,
)

EXIT, TARGET, STEPS = 1, 2, 60


def by_hand(name: str, model: nn.Module, x: Tensor, zero: Tensor) -> Tensor:
    """(1,3,32,32), from Captum alone, over the whole model with a pair as target."""
    target = (EXIT, TARGET)
    cells = torch.arange(4).reshape(2, 2).repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, 32, 32)
    path = {"baselines": zero, "target": target, "n_steps": STEPS, "internal_batch_size": 32}
    asked: dict[str, Callable[[], Tensor]] = {
        "integrated_gradients": lambda: attr.IntegratedGradients(model).attribute(x, **path),
        "saliency": lambda: attr.Saliency(model).attribute(x, target=target),
        "input_x_gradient": lambda: attr.InputXGradient(model).attribute(x, target=target),
        "feature_ablation": lambda: attr.FeatureAblation(model).attribute(
            x, baselines=zero, target=target, feature_mask=cells
        ),
        "occlusion": lambda: attr.Occlusion(model).attribute(x, (3, 16, 16), (3, 8, 8), baselines=zero, target=target),
    }
    return asked[name]().detach()


@pytest.mark.parametrize(
    "name",
    ["integrated_gradients", "saliency", "input_x_gradient", "feature_ablation", "occlusion"],
)
def test_pixels_equal_captum_by_hand(name: str) -> None:
    model, x = smooth(), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, name, baseline="mean", steps=STEPS)
    expected = by_hand(name, model, x.clone().requires_grad_(), torch.zeros_like(x))[0]
    reduce = {"saliency": expected.amax(0), "feature_ablation": expected[0], "occlusion": expected[0]}
    np.testing.assert_allclose(found.heat, reduce.get(name, expected.sum(0)), atol=2e-5)
    cells = found.heat.reshape(2, 16, 2, 16)
    mean = name in ("saliency", "feature_ablation", "occlusion")
    np.testing.assert_allclose(found.tokens, cells.mean((1, 3)) if mean else cells.sum((1, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_all_exits_at_once_equal_captum_one_by_one() -> None:
    model, x = made(), pictures(1)
    compared = compare_exits(model, x[0], TARGET, baseline="mean", steps=STEPS)
    assert {a.steps for a in compared.attributions} <= {STEPS, 2 * STEPS, 4 * STEPS}
    for found in compared.attributions:
        alone = attribute(model, x[0], found.exit, TARGET, baseline="mean", steps=STEPS)
        np.testing.assert_allclose(found.heat, alone.heat, atol=1e-4)
        assert (found.steps, found.delta) == (alone.steps, pytest.approx(alone.delta, abs=1e-4))
    rows: list[int] = []
    together = integrate_exits(model, x, torch.zeros_like(x), TARGET, STEPS, 25, rows.append)
    alone_by_captum = integrate(Query(ExitView(model, EXIT), x, torch.zeros_like(x), TARGET, steps=STEPS))
    torch.testing.assert_close(together[EXIT][0], alone_by_captum[0], atol=1e-5, rtol=1e-3)
    assert rows == [25, 25, 10]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:gradient_shap at exit 2. convergence delta")
def test_gradient_shap_nears_integrated_gradients_and_repeats() -> None:
    model, x = made(predictor="linear").requires_grad_(False), pictures(1)[0]
    first, second = (attribute(model, x, EXIT, TARGET, "gradient_shap", steps=400, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.heat, second.heat)
    path = attribute(model, x, EXIT, TARGET)
    assert first.tokens.ravel() == pytest.approx(path.tokens.ravel(), abs=0.2 * float(np.abs(path.tokens).max()))
    assert first.delta == pytest.approx(first.heat.sum() - first.difference, abs=1e-3)
    stack = torch.cat((torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)))
    found = attribute(model, x, EXIT, TARGET, "gradient_shap", baseline=stack)  # some are drawn, all are subtracted
    assert found.delta == pytest.approx(found.heat.sum() - found.difference, abs=1e-4)


def test_tokens_equal_captum_by_hand() -> None:
    model, x = smooth(), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, "layer_integrated_gradients", baseline="mean", steps=STEPS)
    path: dict[str, Any] = {"target": (EXIT, TARGET), "n_steps": STEPS, "internal_batch_size": 32}
    by_captum = attr.LayerIntegratedGradients(model, model.stages[EXIT].trunk)
    expected = by_captum.attribute(x, baselines=torch.zeros_like(x), **path)[0].sum(-1).detach()
    np.testing.assert_allclose(found.tokens.ravel(), expected[1:], atol=1e-5)
    np.testing.assert_allclose(found.prefix, expected[:1], atol=1e-5)
    assert found.layer == "after block 4"


def test_token_grad_cam_is_gradient_times_activation_per_token() -> None:
    model, x = smooth(), pictures(1)
    kept: list[Tensor] = []
    handle = model.stages[EXIT].trunk.register_forward_hook(lambda m, i, out: kept.append(out))
    logit = model(x.clone().requires_grad_())[0, EXIT, TARGET]
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    expected = (gradient * kept[0]).sum(-1)[0].detach()
    found = attribute(model, x[0], EXIT, TARGET, "token_grad_cam")
    np.testing.assert_allclose(found.tokens.ravel(), expected[1:], atol=1e-5)


def test_patches_under_a_class_token_predictor_have_no_gradient_so_an_earlier_block_is_read() -> None:
    model, x = smooth(read="cls", bypass="none"), pictures(1)
    assert readable_layer(ExitView(model, EXIT), x, TARGET).block == 3
    for name in ("token_grad_cam", "layer_integrated_gradients"):
        found = attribute(model, x[0], EXIT, TARGET, name)
        assert found.layer == "after block 3"
        assert np.abs(found.tokens).min() > 0
        with pytest.raises(ValueError, match="reads no patch token after block 4: the gradient there is exactly 0"):
            attribute(model, x[0], EXIT, TARGET, name, layer=4)


def test_an_earlier_layer_has_its_own_map() -> None:
    x = pictures(1)
    maps = [token_grad_cam(Query(ExitView(smooth(), EXIT), x, x * 0, TARGET, layer=block)) for block in (2, 4)]
    assert [found.layer for found in maps] == ["after block 2", "after block 4"]
    assert not np.allclose(maps[0].tokens, maps[1].tokens)


def test_ablation_is_the_drop_of_the_logit() -> None:
    model, x = made(predictor="linear").requires_grad_(False), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, "feature_ablation", baseline="mean")
    hidden = x.clone()
    hidden[..., 16:, :16] = 0
    with torch.no_grad():
        drop = model(x)[0, EXIT, TARGET] - model(hidden)[0, EXIT, TARGET]
    assert found.tokens[1, 0] == pytest.approx(float(drop), abs=1e-5)


def test_occlusion_runs_as_many_images_as_its_progress_expects() -> None:
    model, x, rows = made(predictor="linear").requires_grad_(False), pictures(1), list[int]()
    view = ExitView(model, EXIT)
    view.on_rows = rows.append
    query = Query(view, x, torch.zeros_like(x), TARGET)
    assert occlusion(query).tokens.shape == (2, 2)
    assert sum(rows) == occlusion_rows(query)


def test_rollout_multiplies_attention_and_residual() -> None:
    maps = [torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(i)).softmax(-1) for i in range(3)]
    expected = torch.eye(4)
    for layer in maps:
        expected = (0.5 * layer.mean(0) + 0.5 * torch.eye(4)) @ expected
    torch.testing.assert_close(rollout(maps), expected)
    torch.testing.assert_close(rollout(maps).sum(-1), torch.ones(4))
    torch.testing.assert_close(rollout([torch.eye(4)[None]]), torch.eye(4))


@pytest.mark.parametrize("tuning", ["lora", "adapter", "none"])
def test_maps_are_those_of_the_tuned_attention(tuning: str) -> None:
    model = made(tuning=tuning).requires_grad_(False)
    maps = attention_maps(ExitView(model, 1), pictures(1))
    assert len(maps) == 4  # blocks under exit 2
    block = model.stages[0].trunk[0]  # type: ignore[index]
    with torch.no_grad():
        tokens = model.embed(pictures(1))
        qkv = block.attn.qkv(block.norm1(tokens))
    heads = block.attn.num_heads
    query, key, _ = qkv.reshape(1, 5, 3, heads, -1).permute(2, 0, 3, 1, 4)
    expected = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)[0]
    torch.testing.assert_close(maps[0], expected, atol=1e-5, rtol=1e-4)
    assert all(m.shape == (heads, 5, 5) for m in maps)


def test_fused_attention_comes_back_also_after_an_error() -> None:
    model = made()
    attentions = [m for m in model.modules() if hasattr(m, "fused_attn")]
    before = [m.fused_attn for m in attentions]
    with pytest.raises(ValueError, match="images"):
        attention_maps(ExitView(model, 1), torch.zeros(1, 7, 32, 32))
    assert [m.fused_attn for m in attentions] == before
    assert not any(m.attn_drop._forward_pre_hooks for m in attentions)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    "changes", [{}, {"backbone": "test_vit2", "exits": 2}, {"tuning": "vpt", "rank": 3, "exits": 2}]
)
def test_shares_of_patches(changes: dict[str, Any]) -> None:
    """test_vit2 has one register and no class token: what is read is the mean patch. Prompts belong to no patch."""
    model = made(**changes)
    view, x = ExitView(model, model.n_exits - 1), pictures(1)
    maps, prompts = attention_maps(view, x), changes.get("rank", 0)
    assert {tuple(attention.shape[1:]) for attention in maps} == {(5 + prompts, 5 + prompts)}
    expected = torch.eye(5)
    for attention in maps:
        expected = (attention.mean(0)[:5, :5] + torch.eye(5)) / 2 @ expected
    reads = expected[0] if model.stages[0].class_token else expected[1:].mean(0)
    found = roll_out(view, x)
    assert found.shape == (2, 2) and (found > 0).all()
    assert all((stage.prefix, stage.class_token) == (1, "backbone" not in changes) for stage in model.stages)
    np.testing.assert_allclose(found.ravel(), reads[1:], rtol=1e-5)
    assert (found.sum() + float(reads[0]) < 1 - 1e-3) == bool(prompts)


def test_every_method_says_what_its_values_are() -> None:
    assert all(method.unit for method in METHODS.values())
    assert not METHODS["attention_rollout"].is_attribution and METHODS["saliency"].is_attribution

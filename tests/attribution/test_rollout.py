"""Rollout of given attention, and attention as the model computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_model import made, pictures

from dmpo_explore.attribution.exit_model import ExitView
from dmpo_explore.attribution.methods import attention_maps, roll_out, rollout


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


def test_shares_of_patches() -> None:
    view = ExitView(made(), 2)
    found = roll_out(view, pictures(1))
    assert found.shape == (2, 2)
    assert (found > 0).all()
    np.testing.assert_allclose(found.ravel(), rollout(attention_maps(view, pictures(1)))[0, 1:])


def test_a_register_is_no_class_token() -> None:
    """test_vit2 has one register and no class token: what is read is the mean patch."""
    model = made(backbone="test_vit2", exits=2)
    assert [(stage.prefix, stage.class_token) for stage in model.stages] == [(1, False)] * 2
    view = ExitView(model, 1)
    expected = rollout(attention_maps(view, pictures(1)))[1:].mean(0)[1:]
    np.testing.assert_allclose(roll_out(view, pictures(1)).ravel(), expected)
    assert all(stage.class_token for stage in made().stages)


def test_what_prompts_give_belongs_to_no_patch() -> None:
    model = made(tuning="vpt", rank=3, exits=2)
    view = ExitView(model, 0)
    maps = attention_maps(view, pictures(1))
    assert {tuple(attention.shape[1:]) for attention in maps} == {(8, 8)}  # 5 tokens and 3 prompts
    expected = torch.eye(5)
    for attention in maps:
        expected = (attention.mean(0)[:5, :5] + torch.eye(5)) / 2 @ expected
    found = roll_out(view, pictures(1))
    np.testing.assert_allclose(found.ravel(), expected[0, 1:], rtol=1e-5)
    assert found.sum() + float(expected[0, 0]) < 1 - 1e-3

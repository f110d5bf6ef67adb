"""Stage tokens equal the model's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_model import C, K, made, pictures

from dmpo_explore.config import ModelConfig
from dmpo_explore.inspection.tokens import stage_tokens
from dmpo_explore.models.dmpo import evaluating
from dmpo_explore.models.factory import assemble


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder", "none"])
def test_tokens_are_those_of_the_models_own_stages(bypass: str) -> None:
    model = made(bypass=bypass)
    seen = stage_tokens(model, pictures(), batch_size=3)  # two batches, one of them short
    tokens, side = model.embed(pictures()), None
    with torch.no_grad():
        for k, stage in enumerate(model.stages):
            tokens = stage.trunk(tokens)
            read, side = stage.bypass(tokens, side)
            torch.testing.assert_close(seen.trunk[k], tokens, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(seen.read[k], read, rtol=1e-5, atol=1e-5)
            assert seen.patches(k).shape == (4, stage.grid[0] * stage.grid[1], stage.width)
            assert torch.equal(seen.patches(k, "read"), seen.read[k][:, stage.prefix :])
    assert [seen.read[k] is seen.trunk[k] for k in range(K)] == [bypass == "none"] * (K - 1) + [True]
    assert not any(t.requires_grad for t in (*seen.trunk, *seen.read))


def test_the_model_is_left_as_it_was() -> None:
    model: Any = made(dropout=0.5).train()
    model.stages[0].norm.eval()  # one part in another mode than the rest
    before = [module.training for module in model.modules()]
    first, again = (stage_tokens(model, pictures()) for _ in range(2))
    assert torch.equal(first.trunk[-1], again.trunk[-1])  # no dropout
    assert [module.training for module in model.modules()] == before
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        assert not model.training
        raise RuntimeError("stop")
    assert [module.training for module in model.modules()] == before


def test_maps_are_seen_as_tokens() -> None:
    """A CNN's stages differ in width and grid, and have no class token."""
    model = made(backbone="test_efficientnet", image_size=64, tuning="none", read="mean")
    seen = stage_tokens(model, pictures(3, 64))
    for k, stage in enumerate(model.stages):
        assert seen.patches(k).shape == (3, stage.grid[0] * stage.grid[1], stage.width)
    assert len({stage.grid for stage in model.stages}) > 1
    with torch.no_grad():
        state = model.stages[0].trunk(model.embed(pictures(3, 64)))  # (B, D, h, w)
    torch.testing.assert_close(seen.patches(0)[1, seen.grids[0][1] + 2], state[1, :, 1, 2])  # row 1, column 2


def test_wrong_arguments_are_refused() -> None:
    model: Any = assemble(ModelConfig("test_vit", "random", 32, exits=K, rank=4, bypass_width=6, channels=8), C)
    with pytest.raises(ValueError, match=r"images of shape \(0, 3, 32, 32\)"):
        stage_tokens(model, pictures()[:0])
    with pytest.raises(ValueError, match=r"images of shape \(3, 32, 32\)"):
        stage_tokens(model, pictures()[0])
    with pytest.raises(ValueError, match="source='side'"):
        stage_tokens(model, pictures(1)).patches(0, "side")

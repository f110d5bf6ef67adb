"""Heads and neurons removed from a ViT's blocks: `surgery`."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import build_model
from dmpo_explore.neighbours.slimming import surgery
from dmpo_explore.neighbours.slimming.surgery import vit_blocks, width_of

pytest.importorskip("torch_pruning", reason="the extra slim is not installed")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def model_of(**config: Any) -> Any:
    torch.manual_seed(0)
    return build_model(ModelConfig("test_vit", "random", 32, exits=(2, 6), **config), 3).eval()


def test_removing_equals_setting_to_zero() -> None:
    """A head without its columns of proj and a neuron without its column of fc2 contribute nothing."""
    model = model_of(tuning="full")
    blocks = vit_blocks([model])
    heads, ffn = [[1], [0], [], [1], [0], []], [[0, 5, 190], [], [1], [2], [3], [4]]
    with torch.no_grad():
        for block, gone_heads, gone in zip(blocks, heads, ffn, strict=True):
            for h in gone_heads:
                block.attn.proj.weight[:, 32 * h : 32 * h + 32] = 0
            block.mlp.fc2.weight[:, gone] = 0
    expected = model(IMAGES)
    surgery.remove(blocks, heads, ffn)
    assert width_of(blocks) == ((1, 1, 2, 1, 1, 2), (189, 192, 191, 191, 191, 191))
    torch.testing.assert_close(model(IMAGES), expected)
    assert all(block.attn.fused_attn for block in blocks)


def test_the_least_important_go_step_by_step() -> None:
    model, seen = model_of(tuning="full"), []
    blocks = vit_blocks([model])
    with torch.no_grad():
        for block in blocks:
            block.attn.proj.weight[:, 32:] = 0
            block.mlp.fc2.weight[:, 96:] = 0
    expected = model(IMAGES)
    surgery.slim_blocks(
        blocks, lambda: [model(IMAGES).square().mean()], heads=[(2,) * 6, (1,) * 6], ffn=[(144,) * 6, (96,) * 6],
        on_step=lambda done, steps: seen.append((done, steps, width_of(blocks)[1][0])),
    )  # fmt: skip
    assert seen == [(1, 2, 144), (2, 2, 96)]
    torch.testing.assert_close(model(IMAGES), expected)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "lora-all", "adapter"])
@pytest.mark.parametrize("backbone", ["test_vit", "test_vit3"])  # the second has LayerScale
def test_tuning_is_merged_and_layer_scale_stays(tuning: str, backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone, "random", 48, exits=2, tuning=tuning), 3).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    images = torch.rand(2, 3, 48, 48)
    expected = model(images)
    blocks = surgery.plain_blocks(model)
    torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-4)
    plain = build_model(ModelConfig(backbone, "random", 48, exits=2, tuning="full"), 3)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert width_of(blocks)[1][0] == width_of(vit_blocks([plain]))[1][0] + (8 if tuning == "adapter" else 0)
    surgery.remove(blocks, [[0]] * len(blocks), [[1]] * len(blocks))  # Torch-Pruning has nothing to warn of
    assert model(images).shape == expected.shape


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **how: Any) -> Any:
        if name == "torch_pruning":
            raise ModuleNotFoundError("No module named 'torch_pruning'", name="torch_pruning")
        return real(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'slimming needs torch_pruning.*pip install "dmpo-explore\[slim\]"'):
        surgery.check_installed()

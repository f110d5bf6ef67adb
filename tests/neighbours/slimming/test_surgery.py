"""Heads and neurons of a ViT's blocks: how important they are, how they go, and blocks made narrow from a config."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from dmpo_explore import ModelConfig, build_model
from dmpo_explore.models import build_reference, measure_flops
from dmpo_explore.neighbours.slimming import surgery
from dmpo_explore.neighbours.slimming.options import Slimming
from dmpo_explore.neighbours.slimming.surgery import measure_importance, vit_blocks, width_of

PRUNED = pytest.mark.skipif(find_spec("torch_pruning") is None, reason="the extra slim is not installed")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def model_of(**config: Any) -> Any:
    torch.manual_seed(0)
    return build_model(ModelConfig("test_vit", "random", 32, exits=(2, 6), **config), 3).eval()


@PRUNED
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


@PRUNED
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
@PRUNED
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


def test_it_is_the_sum_over_batches_of_gradient_times_weight() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2, tuning="full"), 3).eval()
    blocks, batches = vit_blocks([model]), torch.rand(3, 2, 3, 32, 32)
    found = measure_importance(blocks, (model(images).square().mean() for images in batches))
    block = blocks[1]
    heads, neurons = torch.zeros(2), torch.zeros(192)
    for images in batches:  # the definition, weight by weight
        model.zero_grad()
        model(images).square().mean().backward()
        proj, fc1, fc2 = block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight
        for h in range(2):
            heads[h] += (proj.grad * proj).abs()[:, 32 * h : 32 * h + 32].sum()
        for j in range(192):
            neurons[j] += (fc1.grad * fc1)[j].abs().sum() + (fc2.grad * fc2)[:, j].abs().sum()
    torch.testing.assert_close(found.heads[1], heads)
    torch.testing.assert_close(found.ffn[1], neurons)


def test_a_head_and_a_neuron_that_change_nothing_have_none() -> None:
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2, tuning="full"), 3).eval()
    blocks = vit_blocks([model])
    with torch.no_grad():
        blocks[0].attn.proj.weight[:, :32] = 0
        blocks[0].mlp.fc2.weight[:, 7] = 0
    found = measure_importance(blocks, [model(torch.rand(2, 3, 32, 32)).square().mean()])
    assert found.heads[0][0] == 0 and found.ffn[0].argmin() == 7 and found.heads[0][1] > 0


def config(heads: tuple[int, ...] = (1,) * 6, ffn: tuple[int, ...] = (100,) * 6, **model: object) -> ModelConfig:
    return ModelConfig(
        "test_vit", "random", 32, exits=(2, 6), tuning="full", slimming=Slimming("w", heads, ffn), **model,  # type: ignore[arg-type]
    )  # fmt: skip


def test_blocks_have_the_width_that_the_config_names() -> None:
    heads, ffn = (1, 2, 1, 2, 1, 2), (10, 20, 30, 40, 50, 192)
    model = build_model(config(heads, ffn), 3).eval()
    assert width_of(vit_blocks([model])) == (heads, ffn)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2, 3)
    assert model.trainable_state().keys() == dict(model.named_parameters()).keys()  # a run stores all of it


def test_flops_are_those_of_the_closed_form() -> None:
    """Embedding 2·N·(3·16²)·D; a block: qkv and proj 2·N·D·4·hd·h, attention 2·2·N²·hd·h, MLP 2·N·D·2·F."""
    slimmed, wide = config(), ModelConfig("test_vit", "random", 32, exits=(2, 6), tuning="none")
    found = measure_flops(build_model(slimmed, 3), build_reference(slimmed, 3))
    plain = measure_flops(build_model(wide, 3), build_reference(wide, 3))
    n, d, inner, neurons = 5, 64, 32, 100
    block = 2 * n * d * 4 * inner + 4 * n * n * inner + 4 * n * d * neurons
    assert found.trunk == (2 * block, 4 * block) and found.tuning == (0, 0)
    assert found.reference == plain.reference  # shares of compute are of the unslimmed backbone
    assert sum(found.trunk) < 0.55 * sum(plain.trunk)


def test_merged_tokens_and_narrow_blocks_go_together() -> None:
    model = build_model(config(merge=1, merge_from=2), 3)
    assert width_of(vit_blocks([model]))[0] == (1,) * 6


CNN = ModelConfig("tf_efficientnet_lite0", "random", 64, exits=2, slimming=Slimming("w", (1,), (1,)))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: build_model(config((1,), (5,)), 3), "slimming is of 1 ViT blocks, this backbone has 6 in use"),
        (
            lambda: build_model(config((3,) * 6), 3),
            "keeps 3 heads and 100 neurons in block 1, which has 2 and 192",
        ),
        (lambda: build_model(config(ffn=(10**12,) * 6), 3), "keeps 1 heads and 1000000000000 neurons in block 1"),
        (lambda: build_model(CNN, 3), "this backbone has 0 in use"),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()

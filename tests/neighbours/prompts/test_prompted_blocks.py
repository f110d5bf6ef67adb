"""Prompts: values against the paper's order of tokens, and every reader of tokens sees the patches alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import made, pictures
from torch import nn

from dmpo_explore import ModelConfig, attribute, stage_tokens
from dmpo_explore.models.factory import assemble
from dmpo_explore.models.flops import config_flops
from dmpo_explore.models.timm_backbones import create_backbone, split_backbone
from dmpo_explore.neighbours.prompts.prompted_blocks import PromptedBlock, add_prompts

COUNT = 3


def vit(name: str = "test_vit") -> Any:
    torch.manual_seed(0)
    return create_backbone(name, 32)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])  # one with a class token, one with a register
@torch.no_grad()
def test_every_block_has_its_own_prompts_and_drops_what_they_become(name: str) -> None:
    plain, prompted = vit(name), vit(name)
    add_prompts(prompted, COUNT, 0.0)
    trained = {key: weight for key, weight in prompted.named_parameters() if weight.requires_grad}
    assert set(trained) == {f"blocks.{i}.prompts" for i in range(len(plain.blocks))}
    assert {tuple(weight.shape) for weight in trained.values()} == {(COUNT, 64)}
    block, tuned, x = plain.blocks[3], prompted.blocks[3], torch.randn(2, 5, 64)
    first = torch.cat((x[:, :1], tuned.prompts.expand(2, -1, -1), x[:, 1:]), dim=1)  # as the paper orders them
    out = block(first)
    expected = torch.cat((out[:, :1], out[:, 1 + COUNT :]), dim=1)
    torch.testing.assert_close(tuned(x), expected, rtol=1e-5, atol=1e-5)


def test_they_start_within_the_papers_bound_and_only_they_are_dropped() -> None:
    model = vit()
    add_prompts(model, 20, 0.5)
    bound = (6 / (3 * 16**2 + 64)) ** 0.5
    prompts = torch.cat([block.prompts for block in model.blocks]).detach()
    assert 0.9 * bound < prompts.abs().max() <= bound and prompts.mean().abs() < 0.1 * bound
    block, x = model.blocks[0].eval(), torch.randn(1, 5, 64)
    assert torch.equal(block(x), block(x))
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(PromptedBlock(nn.Identity(), 64, 2, dropout=0.5).train()(x), x)


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet", "swin_tiny_patch4_window7_224"])
def test_a_plain_vit_is_needed(name: str) -> None:
    with torch.device("meta" if "swin" in name else "cpu"):
        backbone = create_backbone(name, 224 if "swin" in name else 64)
    with pytest.raises(ValueError, match="tuning='vpt' finds no block of a plain ViT"):
        add_prompts(backbone, COUNT, 0.0)


def test_exits_heat_maps_and_tokens_keep_the_grid() -> None:
    model, plain = made(tuning="vpt", rank=COUNT), made(tuning="none")
    seen, expected = stage_tokens(model, pictures()), stage_tokens(plain, pictures())
    assert seen.grids == expected.grids and seen.prefix == expected.prefix
    assert [t.shape for t in seen.trunk] == [t.shape for t in expected.trunk]
    for method in ("layer_integrated_gradients", "token_grad_cam", "attention_rollout"):
        assert attribute(model, pictures()[0], exit=1, method=method).tokens.shape == (2, 2)
    assert attribute(model, pictures()[0], exit=1, method="token_grad_cam", layer=3).layer == "after block 3"


@torch.no_grad()
def test_merged_tokens_and_prompts_go_together() -> None:
    config = ModelConfig("test_vit", "random", 64, exits=2, merge=2, merge_from=2, tuning="vpt", rank=COUNT)
    model = assemble(config, 3).eval()
    blocks = [block for stage in model.stages for block in stage.trunk.children()]  # type: ignore[union-attr]
    counts: list[int] = []
    for block in blocks:
        block.block.register_forward_hook(lambda m, i, o: counts.append(o.shape[1]))
    *_, last = model.walk(torch.randn(2, 3, 64, 64))
    assert counts == [1 + n + COUNT for n in (16, 14, 12, 10, 8, 8)]
    assert last.tokens.shape == (2, 17, 64)


def test_a_backbone_of_ones_own_is_prompted_too() -> None:
    backbone = split_backbone(vit(), 2, 32)
    parts = nn.ModuleList(backbone.trunks)  # without a convolution that makes patches
    add_prompts(parts, COUNT, 0.0)
    assert float(parts[0][0].prompts.detach().abs().max()) <= (6 / 64) ** 0.5  # type: ignore[index]


@pytest.mark.slow
def test_the_shares_on_the_page_are_true() -> None:
    page = (Path(__file__).parents[3] / "benchmarks" / "EVIDENCE.md").read_text(encoding="utf-8")
    for size, tokens in ((56, 17), (98, 50)):
        costs = [config_flops(ModelConfig(image_size=size, tuning=tuning), 10) for tuning in ("lora-all", "vpt")]
        lora, vpt = (100 * cost.cumulative[-1] / cost.reference for cost in costs)
        assert re.search(rf"{vpt:.0f} %[^,]* at {size} px \({tokens} tokens; LoRA {lora:.0f} %\)", page)

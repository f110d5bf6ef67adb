"""Tuning: where it sits, that it starts as nothing, what trains, and its formulas."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F
from tuned import (
    CONVOLUTIONAL,
    LAYER_SCALE,
    PLAIN,
    RANK,
    cut_and_tuned,
    features,
    made,
    opened,
    pictures,
    through,
    trainable,
)  # fmt: skip

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import build_model
from dmpo_explore.models.timm_backbones import create_backbone, split_backbone
from dmpo_explore.models.tuning import (
    TUNINGS,
    ConvAdapter,
    ParallelAdapter,
    Tunable,
    _kind,
    merge_peft,
    tune,
    tuned_layers,
)

LORA_TARGETS = {
    "lora": {"attn.qkv"},
    "lora-all": {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"},
}


@pytest.mark.parametrize("name", [PLAIN, LAYER_SCALE])
@pytest.mark.parametrize("kind", sorted({*TUNINGS} - {"vpt"}))
def test_at_the_start_the_backbone_is_untouched(kind: str, name: str) -> None:
    tuned = made(name, kind, dropout=0.0 if kind == "oft" else 0.3)
    assert torch.equal(features(tuned), features(made(name)))


@pytest.mark.parametrize("kind", ["lora", "lora-all", "adapter", "oft", "vpt"])
def test_later_it_is_not(kind: str) -> None:
    far = 0.05 if kind == "vpt" else 0.1
    assert (features(opened(made(LAYER_SCALE, kind))) - features(made(LAYER_SCALE))).abs().max() > far


@pytest.mark.parametrize("kind", sorted(LORA_TARGETS))
def test_lora_sits_in_every_block_and_nowhere_else(kind: str) -> None:
    vit = made(kind=kind)
    wanted = {f"blocks.{i}.{target}" for i in range(len(vit.blocks)) for target in LORA_TARGETS[kind]}
    assert {name for name, module in vit.named_modules() if hasattr(module, "lora_A")} == wanted
    ends = {f"{name}.lora_{half}.default.weight" for name in wanted for half in "AB"}
    assert trainable(vit) == ends  # so neither patch_embed.proj nor a norm or bias
    weights = dict(vit.named_parameters())
    assert weights["blocks.2.attn.qkv.lora_A.default.weight"].shape == (RANK, 64)
    assert weights["blocks.2.attn.qkv.lora_B.default.weight"].shape == (3 * 64, RANK)


def test_lora_adds_ba_without_scaling() -> None:
    vit = opened(made(kind="lora"))
    qkv = vit.blocks[1].attn.qkv
    x = torch.randn(2, 7, 64)
    low, high = qkv.lora_A.default.weight, qkv.lora_B.default.weight
    expected = F.linear(x, qkv.weight + high @ low, qkv.bias)
    torch.testing.assert_close(qkv(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora-all", "adapter"])
def test_what_widens_lies_by_columns_and_so_do_its_gradients(kind: str) -> None:
    vit = made(kind=kind)
    vit(pictures()).sum().backward()
    weights = [p for name, p in vit.named_parameters() if re.search(r"lora_B|\.up\.weight", name)]
    assert weights and all(p.t().is_contiguous() for p in weights)
    assert all(p.grad is not None and p.grad.t().is_contiguous() for p in weights)


def test_lora_drops_its_own_input_only() -> None:
    vit = opened(made(kind="lora", dropout=0.5)).train()
    qkv = vit.blocks[0].attn.qkv
    assert qkv.lora_dropout.default.p == 0.5
    x = torch.randn(4, 64)
    with torch.no_grad():
        assert not torch.equal(qkv(x), qkv(x))
        nn.init.zeros_(qkv.lora_B.default.weight)
        torch.testing.assert_close(qkv(x), F.linear(x, qkv.weight, qkv.bias), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [PLAIN, LAYER_SCALE])
def test_adapter_is_adaptformers_beside_the_scaled_mlp(name: str) -> None:
    plain, vit = made(name), opened(made(name, "adapter"))
    block, tuned = plain.blocks[3], vit.blocks[3]
    down, up = tuned.mlp.down, tuned.mlp.up
    x = torch.randn(2, 5, 64)
    with torch.no_grad():
        x1 = x + block.ls1(block.attn(block.norm1(x)))
        read = block.norm2(x1)
        hidden = F.gelu(read @ down.weight.T + down.bias)
        expected = x1 + block.ls2(block.mlp(read)) + hidden @ up.weight.T + up.bias
        torch.testing.assert_close(tuned(x), expected, rtol=1e-5, atol=1e-5)


def test_adapter_trains_its_two_layers_in_every_block() -> None:
    vit = made(LAYER_SCALE, "adapter")
    ends = ("down.weight", "down.bias", "up.weight", "up.bias")
    assert trainable(vit) == {f"blocks.{i}.mlp.{end}" for i in range(len(vit.blocks)) for end in ends}
    assert vit.blocks[0].mlp.down.weight.shape == (RANK, 64)
    assert not vit.blocks[0].mlp.down.weight.eq(0).any()  # else nothing could ever train
    assert vit.blocks[0].mlp.up.weight.eq(0).all()


def test_adapter_drops_its_hidden_layer_only() -> None:
    adapter = ParallelAdapter(nn.Identity(), nn.Identity(), 8, 200, dropout=0.25).train()
    nn.init.zeros_(adapter.down.weight)
    nn.init.ones_(adapter.down.bias)
    nn.init.ones_(adapter.up.weight)
    x = torch.zeros(50, 1, 8)
    kept = adapter(x)[:, 0, 0] / (F.gelu(torch.tensor(1.0)) / 0.75)  # how many of 200 survived
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert 140 < kept.mean() < 160
    assert torch.allclose(adapter.eval()(x), 200 * F.gelu(torch.tensor(1.0)))


@pytest.mark.parametrize("kind", sorted(TUNINGS))
def test_a_step_moves_the_tuning_weights_and_no_other(kind: str) -> None:
    vit = made(kind=kind).train()
    before = {name: weight.clone() for name, weight in vit.state_dict().items()}
    head = nn.Linear(64, 3)
    chosen = [p for p in vit.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([*chosen, *head.parameters()], lr=1.0)
    for _ in range(2):  # the second step reaches what lies under a zero layer
        optimizer.zero_grad()
        head(vit.forward_features(pictures()).mean(1)).square().sum().backward()
        optimizer.step()
    moved = {name for name, weight in vit.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == trainable(vit)


def test_none_and_full() -> None:
    assert trainable(made(kind="none")) == set()
    full = made(kind="full")
    assert trainable(full) == {name for name, _ in full.named_parameters()}
    assert {"patch_embed.proj.weight", "pos_embed", "cls_token", "blocks.0.norm1.bias"} <= trainable(full)


# -- families whose blocks are convolutions or MLPs over maps --


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("kind", ["lora", "lora-all", "adapter"])
def test_in_other_families_too_it_starts_as_nothing_and_then_is_not(name: str, kind: str) -> None:
    plain, parts = through(cut_and_tuned(name, "none")), cut_and_tuned(name, kind)
    torch.testing.assert_close(through(parts), plain, rtol=1e-5, atol=1e-5)
    assert (through(opened(parts)) - plain).abs().max() > 0.01 * plain.abs().max()
    assert all("lora_" in key or re.search(r"\.(down|conv|up)\.", key) for key in trainable(parts))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_lora_tunes_the_familys_layers(name: str) -> None:
    parts = cut_and_tuned(name, "lora")
    found = [key for key, module in parts.named_modules() if hasattr(module, "lora_A")]
    assert {next(end for end in CONVOLUTIONAL[name] if key.endswith(f".{end}")) for key in found} == CONVOLUTIONAL[name]
    assert not any(key.startswith("0.") for key in found)  # never the stem
    depthwise = [m for m in parts.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert not any(hasattr(m, "lora_A") for m in depthwise)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_merged_lora_gives_the_same_and_is_gone(name: str) -> None:
    parts = opened(cut_and_tuned(name, "lora"))
    before = through(parts)
    layers = sum(hasattr(module, "lora_A") for module in parts.modules())
    assert merge_peft(parts) == layers > 0
    torch.testing.assert_close(through(parts), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    assert not any("lora" in key for key in parts.state_dict())
    assert parts.state_dict().keys() == cut_and_tuned(name, "none").state_dict().keys()
    assert merge_peft(parts) == 0


def test_an_adapter_beside_convolutions_pools_where_they_shrink_the_map() -> None:
    block = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    adapter = opened(ConvAdapter(block.requires_grad_(False), 4, 6, 3, 0.0))
    x = torch.randn(2, 4, 10, 10)
    with torch.no_grad():
        hidden = F.avg_pool2d(F.conv2d(x, adapter.down.weight, adapter.down.bias), 2)
        hidden = F.gelu(F.conv2d(hidden, adapter.conv.weight, adapter.conv.bias, padding=1, groups=3))
        expected = block(x) + F.conv2d(hidden, adapter.up.weight, adapter.up.bias)
        torch.testing.assert_close(adapter(x), expected, rtol=1e-5, atol=1e-5)
        assert adapter(torch.randn(1, 4, 7, 9)).shape == (1, 6, 4, 5)


def test_convnexts_layer_scale_stays_on_the_mlp() -> None:
    torch.manual_seed(0)
    block: Any = ConvNeXtBlock(8, ls_init_value=0.3).eval().requires_grad_(False)
    nn.init.normal_(block.gamma)
    x = torch.randn(2, 8, 5, 5)
    before, gamma = block(x), block.gamma
    parts = nn.ModuleList([block])
    tune(parts, "adapter", 3, 0.0)
    torch.testing.assert_close(block(x), before)
    assert block.gamma is None and block.mlp.scale.gamma is gamma and not gamma.requires_grad
    nn.init.normal_(block.mlp.up.weight)
    normed = block.norm(block.conv_dw(x).permute(0, 2, 3, 1))
    extra = F.gelu(F.linear(normed, block.mlp.down.weight, block.mlp.down.bias)) @ block.mlp.up.weight.T
    torch.testing.assert_close(block(x), before + extra.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_an_unknown_kind_lists_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown tuning 'lorra'\. Did you mean 'lora'\? Valid: .*adapter, full, lora"
    ):
        tune(made(), "lorra", RANK, 0.0)


# -- backbones that are cut by rule, or by hand --


def named_layers(name: str, kind: str, chosen: str = "") -> tuple[set[str], tuple[int, int]]:
    """Last names of the layers that a tuning changes, and how many of how many."""
    backbone = split_backbone(create_backbone(name, 64), 2, 64)
    parts = Tunable([backbone.embed, *backbone.trunks], named=backbone.named, chosen=chosen)
    tune(parts, kind, RANK, 0.0)
    found = {key.rpartition(".")[2] for key, module in parts.named_modules() if hasattr(module, "lora_A")}
    return found, tuned_layers(backbone.trunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lora", "lora_all", "of"),
    [
        ("vit_tiny_patch16_dinov3_qkvb", {"qkv"}, {"qkv", "proj", "fc1", "fc2"}, 48),
        ("mobilenetv3_small_050", None, {"conv_pw", "conv_pwl", "conv_reduce", "conv_expand", "conv"}, 40),
        ("regnetx_002", None, {"conv"}, 30),
    ],
)
def test_what_a_layer_is_decides_not_its_name(name: str, lora: set[str] | None, lora_all: set[str], of: int) -> None:
    found, (tuned, there) = named_layers(name, "lora-all")
    assert found == lora_all and tuned == there == of
    assert named_layers(name, "lora")[0] == (lora or lora_all)


def test_chosen_layers_are_tuned_and_no_others() -> None:
    found, (tuned, there) = named_layers("vit_tiny_patch16_dinov3_qkvb", "lora", "attn.proj|fc2")
    assert (found, tuned, there) == ({"proj", "fc2"}, 24, 48)


@pytest.mark.parametrize(
    ("kind", "chosen", "message"),
    [
        ("lora-all", "q_proj", r"no layer whose name ends in q_proj \(layers that can be tuned: fc1, fc2, proj, qkv"),
        ("adapter", "qkv", "tune_layers='qkv' chooses layers for LoRA, not for tuning='adapter'"),
        ("lora", "(qkv", r"tune_layers='\(qkv' is no regular expression"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_chosen(kind: str, chosen: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_layers("vit_tiny_patch16_dinov3_qkvb", kind, chosen)


@pytest.mark.parametrize("name", ["pvt_v2_b0", "visformer_tiny", "coatnet_nano_rw_224"])
def test_an_mlp_of_convolutions_is_no_place_for_an_adapter_of_tokens(name: str) -> None:
    blocks = [*timm.create_model(name, device="meta").modules()]
    assert any(hasattr(block, "mlp") for block in blocks) and "mlp" not in map(_kind, blocks)


def test_nothing_to_tune_names_what_there_is() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2

    trunk = nn.Sequential(Scaled(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(
        ValueError, match=r"finds no linear layer and no undivided .* \(layers that can be tuned: none\)"
    ):
        tune(Tunable([nn.Identity(), trunk], named=False), "lora-all", 2, 0.0)


@pytest.mark.slow
def test_layers_that_are_not_called_are_left_out() -> None:
    """Swin V2 multiplies with its qkv's weight itself: LoRA in the layer's place would do nothing."""
    model = build_model(ModelConfig("swinv2_tiny_window8_256", "random", 64, exits=2), 3)
    state = model.trainable_state()
    assert not [name for name in state if ".qkv." in name] and [name for name in state if ".attn.proj.lora_B" in name]
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
